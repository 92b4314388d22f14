"""build refuses an engine if its answer for an image depends on the image's batch, or on the image's size."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from benchmarks.planted import graphs, resizes
from benchmarks.planted.places import Change
from steps.backends.onnxruntime import open_engine
from steps.building.consistency import BATCHES, check_batches, check_sizes
from steps.engines.contract import CannotBuild, Images, Logits, Runner
from steps.graphs.preprocessing import prepend_preprocessing
from steps.images.preprocessing import preprocess
from steps.reports.card import Card, Device
from tests.backends.tiny import HOW, onnx_model, probe_images, weights, write_exported

SMALLER = HOW.model_copy(update={"resize": HOW.size + 5, "interpolation": "bicubic"})
MAX_SIDE = 300


def engine(folder: Path, change: Change | None = None, how: object = None) -> tuple[Runner, Card]:
    """Return an engine of the tiny network after the change; the engine resizes images if `resize` is given."""
    card = write_exported(folder, onnx_model(weights()))
    if how is not None:
        card = card.model_copy(update={"preprocessing": how, "takes": "any", "max_side": MAX_SIDE})
        prepend_preprocessing(folder / "model.onnx", card.preprocessing, MAX_SIDE)
    if change is not None:
        onnx.save(change(onnx.load(folder / "model.onnx")), folder / "model.onnx")
    return open_engine(folder, card, 1), card


def shared(run: Runner, images_NHWC_u8: Images) -> Logits:
    """Mix a little of the next image into each answer, as a kernel that reads beyond a row's end does."""
    logits_NK = run(images_NHWC_u8)
    return (0.95 * logits_NK + 0.05 * np.roll(logits_NK, 1, 0)).astype(np.float32)


@pytest.mark.parametrize("how", [None, HOW, SMALLER])
def test_an_engine_whose_answers_are_each_images_own_passes(tmp_path: Path, how: object) -> None:
    run, card = engine(tmp_path, how=how)
    check_batches(run, card, probe_images())
    if how is not None:
        check_sizes(run, card)


@pytest.mark.parametrize(
    ("change", "count"),
    [
        (graphs.negated_in_batches("Equal", 1), 1),
        (graphs.negated_in_batches("Equal", 7), 7),
        (graphs.negated_in_batches("Greater", 64), 65),
        (graphs.of_batch_one, 1),
    ],
)
def test_a_batch_that_is_answered_otherwise_is_named(tmp_path: Path, change: Change, count: int) -> None:
    run, card = engine(tmp_path, change)
    with pytest.raises(
        CannotBuild, match=rf"in batches of {count} it gives other scores .* differ by .* fp32 may"
    ):
        check_batches(run, card, probe_images())


def test_a_neighbour_in_the_batch_is_seen(tmp_path: Path) -> None:
    run, card = engine(tmp_path)
    with pytest.raises(CannotBuild, match="in batches of 1 it gives other scores"):
        check_batches(lambda images: shared(run, images), card, probe_images())


def test_the_ends_of_a_profile_are_tried_too(tmp_path: Path) -> None:
    run, card = engine(tmp_path)
    tried: list[int] = []

    def seen(images_NHWC_u8: Images) -> Logits:
        tried.append(len(images_NHWC_u8))
        return run(images_NHWC_u8)

    device = Device(kind="cuda", batch=(1, 8, 100))
    check_batches(seen, card.model_copy(update={"device": device}), probe_images())
    assert set(tried) == {*BATCHES, 8, 100}


@pytest.mark.parametrize(
    "change",
    [
        resizes.no_wider_filter,
        resizes.no_middle,
        resizes.levels_in_bytes,
        resizes.crop_moved(1, 0),
        resizes.crop_moved(0, -1),
    ],
)
def test_a_resize_that_is_another_is_seen_whatever_the_test_images_are(tmp_path: Path, change: Change) -> None:
    run, card = engine(tmp_path, change, SMALLER)
    with pytest.raises(CannotBuild, match=r"scores of an image of \d+ x \d+ pixels differ .* resize and crop"):
        check_sizes(run, card)


@pytest.mark.parametrize("how", [HOW, SMALLER])
def test_one_level_here_and_there_is_no_other_resize(tmp_path: Path, how: object) -> None:
    """One value in fifty differs by one level, as with a resize that rounds ties in the other direction."""
    _, card = engine(tmp_path, how=how)
    sized, _ = engine(tmp_path / "sized")

    def rounding(images_NHWC_u8: Images) -> Logits:
        levels = np.stack([preprocess(Image.fromarray(image), card.preprocessing) for image in images_NHWC_u8])
        ties = np.random.default_rng(images_NHWC_u8.shape[1]).random(levels.shape) < 0.02
        return sized(np.where(ties, levels ^ 1, levels))

    check_sizes(rounding, card)
