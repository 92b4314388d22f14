"""A release's C++ example compiles as its README says, and gives the same pixels and answers as evaluate."""

import random
import shutil
from pathlib import Path

import numpy as np
import openvino
import pytest
from PIL import Image

from steps.backends.runner import open_runner
from steps.building.engine import Target
from steps.images.preprocessing import preprocess
from steps.metrics.agreement import log_softmax
from steps.reports.card import Preprocessing
from steps.reports.release import plain_files, write_sums
from tests.backends.tiny import NAMES
from tests.consumers.compiled import NEEDS_A_COMPILER, prepare_otherwise, run, shares_of
from tests.released import BATCH, SIZES, Released, add_engine, picture

pytestmark = NEEDS_A_COMPILER
HOWS = ((16, 16, "bilinear"), (16, 20, "bicubic"), (24, 61, "bilinear"), (64, 73, "bicubic"))


@pytest.mark.parametrize(
    ("form", "flags"),
    [
        ("export", ()),
        ("openvino-fp32", ("--engine", "openvino-fp32")),
        ("onnxruntime-fp32", ("--engine", "onnxruntime-fp32")),
    ],
)
def test_it_gives_the_classes_and_probabilities_of_evaluate(
    program: Path, released: Released, form: str, flags: tuple[str, ...]
) -> None:
    done = run(program, released.folder, *released.pixel_files, "--top", len(NAMES), *flags)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows[:: len(NAMES)]] == list(map(str, released.pixel_files))
    expected_NK = released.shares_NK[form]
    assert [int(number) for _, number, _, _ in rows[:: len(NAMES)]] == list(expected_NK.argmax(axis=1))
    assert len(set(expected_NK.argmax(axis=1))) > 1  # otherwise this test would show nothing
    for position, (_, number, name, share) in enumerate(rows):
        assert name == NAMES[int(number)]
        assert abs(float(share) - expected_NK[position // len(NAMES), int(number)]) <= 1e-3


@pytest.mark.parametrize(("size", "resize", "interpolation"), HOWS)
def test_its_pixels_are_the_references_to_the_bit(
    program: Path, copy: Path, tmp_path: Path, size: int, resize: int, interpolation: str
) -> None:
    prepare_otherwise(copy, size, resize, interpolation)
    how = Preprocessing.model_validate(
        {"size": size, "resize": resize, "interpolation": interpolation, "mean": (0, 0, 0), "std": (1, 1, 1)}
    )
    draw = random.Random(size * resize)
    for width, height in (
        *SIZES,
        (3, 500),
        (60, 300),
        *((draw.randint(1, 200), draw.randint(1, 200)) for _ in range(4)),
    ):
        image = picture(width, height)
        image.save(tmp_path / "image.ppm")
        run(program, copy, tmp_path / "image.ppm", "--pixels", tmp_path / "seen.ppm")
        seen = np.asarray(Image.open(tmp_path / "seen.ppm"))
        assert np.array_equal(seen, preprocess(image, how)), f"{width}x{height}"
        (tmp_path / "seen.ppm").unlink()


def test_an_engine_that_takes_any_size_is_given_the_image_as_it_was_decoded(
    program: Path, released: Released, copy: Path, tmp_path: Path
) -> None:
    most = 400
    add_engine(copy, Target("openvino", "fp32", BATCH, (), max_side=most), takes="any", max_side=most)
    pixels = tmp_path / "seen.ppm"
    *served, larger = released.pixel_files
    done = run(program, copy, *served, "--engine", "added", "--top", len(NAMES), "--pixels", pixels)
    assert (done.returncode, done.stderr) == (0, "")
    assert pixels.read_bytes() == served[-1].read_bytes()
    expected_NK = released.shares_NK["openvino-fp32"][:-1]
    assert np.abs(np.array(shares_of(done)) - expected_NK).max() <= 1e-3
    refused = run(program, copy, larger, "--engine", "added")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"classify: {larger} has 640 x 480 pixels, and the engine takes up to 400 a side.\n"


def test_an_engine_that_takes_any_size_but_says_not_up_to_which_is_refused(
    program: Path, released: Released, copy: Path
) -> None:
    card = add_engine(copy, Target("openvino", "fp32", BATCH, (), max_side=400), takes="any", max_side=400)
    card /= "card.json"
    card.write_text(card.read_text().replace('"max_side": 400', '"max_side": null'))
    write_sums(copy)
    done = run(program, copy, released.pixel_files[0], "--engine", "added")
    assert (done.returncode, done.stdout) == (2, "") and "its card.json has no max_side" in done.stderr


def test_an_engine_in_bfloat16_computes_in_it_or_is_refused(program: Path, released: Released, copy: Path) -> None:
    folder = add_engine(copy, Target("openvino", "bf16", BATCH, ()))
    done = run(program, copy, *released.pixel_files, "--engine", "added", "--top", len(NAMES))
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert done.returncode == 2 and "computes in bfloat16, which this CPU lacks" in done.stderr
        return
    engine, _ = open_runner(folder)
    images = [preprocess(Image.open(file), released.card.preprocessing) for file in released.pixel_files]
    expected_NK = np.exp(log_softmax(np.concatenate([engine(image[None]) for image in images])))
    assert done.returncode == 0 and np.abs(np.array(shares_of(done)) - expected_NK).max() <= 2e-6


def test_whatever_a_path_and_a_name_hold_there_is_one_line_of_four_columns_a_class(
    program: Path, released: Released, copy: Path, tmp_path: Path
) -> None:
    names = ("a b", "back\\slash", "two\nlines\r", "ключ\tключ")
    card = released.card.model_copy(update={"class_names": names})
    (copy / "labels.txt").write_bytes(plain_files(card)["labels.txt"])
    write_sums(copy)
    image = shutil.copyfile(released.pixel_files[0], tmp_path / "a\tb\n\\c.ppm")
    done = run(program, copy, image, "--top", 4)
    assert (done.returncode, done.stderr) == (0, "")
    rows = sorted((line.split("\t") for line in done.stdout.splitlines()), key=lambda row: row[1])
    assert [row[1:3] for row in rows] == [
        ["0", "a b"], ["1", r"back\\slash"], ["2", r"two\nlines\r"], ["3", r"ключ\tключ"],
    ]  # fmt: skip
    assert {row[0] for row in rows} == {rf"{tmp_path}/a\tb\n\\c.ppm"}


def test_it_explains_itself(program: Path) -> None:
    done = run(program, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: classify RELEASE IMAGE.ppm... [--top N]")
