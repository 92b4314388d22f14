"""The images that tools.predict takes: found below folders, loaded a few at a time, in the engine's format."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from steps.engines.contract import Images, Logits
from steps.errors import BadInput
from tests.backends.tiny import NAMES
from tests.released import SIZES, Released
from tools.predict import predict
from tools.predict_images import Unusable, images_of
from tools.predict_output import Prediction


def test_a_folder_is_walked_in_the_order_of_paths_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/y.tif", "a.png", "a b/q.png", "notes.txt", ".hidden.png", ".cache/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    wanted = [Path(name) for name in ("a/y.tif", "a/z.JPG", "a b/q.png", "a.png", "b.png")]
    assert [found.relative_to(tmp_path) for found in images_of(tmp_path) if isinstance(found, Path)] == wanted
    assert wanted == sorted(wanted)


def test_a_million_images_are_taken_a_few_at_a_time(released: Released) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield released.images[taken % 3]

    def scores(images_NHWC_u8: Images) -> Logits:
        assert len(images_NHWC_u8) <= 4
        return np.zeros((len(images_NHWC_u8), len(NAMES)), np.float32)

    for given, _ in enumerate(islice(predict(endless(), scores, released.card, batch=4), 100)):
        assert taken - given <= 4 * 4


def test_an_engine_of_any_size_is_given_the_images_as_they_are_and_none_too_large(released: Released) -> None:
    card = released.card.model_copy(update={"form": "tensorrt-fp16", "takes": "any", "max_side": 400})
    seen: list[tuple[int, ...]] = []

    def scores(images_NHWC_u8: Images) -> Logits:
        seen.extend([images_NHWC_u8.shape[1:3]] * len(images_NHWC_u8))
        return np.zeros((len(images_NHWC_u8), len(NAMES)), np.float32)

    found = list(predict(released.images, scores, card))
    assert seen == [(height, width) for width, height in SIZES if max(width, height) <= 400]
    large = [one for one in found if isinstance(one, Unusable)]
    assert [one.image for one in found if isinstance(one, Prediction)] == released.images[:-1]
    assert (
        len(large) == 1 and "10.png cannot be classified: tensorrt-fp16 takes images of up to 400" in large[0].why
    )


def test_scores_that_are_not_finite_are_no_prediction(released: Released) -> None:
    def scores(images_NHWC_u8: Images) -> Logits:
        return np.full((len(images_NHWC_u8), len(NAMES)), np.nan, np.float32)

    with pytest.raises(BadInput, match="finite scores"):
        list(predict(released.images, scores, released.card))
