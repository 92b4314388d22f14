"""A release's C++ example names the inputs that it refuses: images, changed releases and command lines."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from steps.images.preprocessing import preprocess
from steps.reports.card import Preprocessing
from steps.reports.release import write_sums
from tests.backends.tiny import not_finite
from tests.consumers.compiled import NEEDS_A_COMPILER, prepare_otherwise, run
from tests.released import Released

pytestmark = NEEDS_A_COMPILER


HEADERS = {
    "comments, and any whitespace": b"P6 # made by hand\n#\r 4\t\v2 # size\n255\n",
    "a comment before the last number": b"P6 4 2\n# most\n#255\n255\n",
    "few levels": b"P6\n4 2\n100\n",
    "two bytes a sample": b"P6\n4 2\n1000\n",
    "the most levels there are": b"P6\n4 2\n65535\n",
}


@pytest.mark.parametrize("header", HEADERS)
def test_it_reads_a_header_as_pillow_does(program: Path, copy: Path, tmp_path: Path, header: str) -> None:
    prepare_otherwise(copy, 2, 2, "bilinear")
    pixels = np.random.default_rng(7).integers(0, 100, 60, dtype=np.uint8).tobytes()  # with a few bytes too many
    (tmp_path / "image.ppm").write_bytes(HEADERS[header] + pixels)
    run(program, copy, tmp_path / "image.ppm", "--pixels", tmp_path / "seen.ppm")
    seen = np.asarray(Image.open(tmp_path / "seen.ppm"))
    how = Preprocessing(size=2, resize=2, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))
    with Image.open(tmp_path / "image.ppm") as image:
        assert np.array_equal(seen, preprocess(image.convert("RGB"), how))


UNREADABLE = {
    "cut short": (b"P6\n4 2\n255\n" + bytes(23), "is cut short: 23 bytes of pixels, and 24 are needed"),
    "cut in its header": (b"P6\n4 2\n", "its header has no|the largest value must be"),
    "empty": (b"", "does not begin with P6"),
    "another kind": (b"P5\n4 2\n255\n" + bytes(8), "does not begin with P6"),
    "no such kind": (b"P65 2\n255\n" + bytes(30), "does not begin with P6"),
    "no number": (b"P6\n4 two\n255\n", "its header has no height"),
    "a negative side": (b"P6\n-4 2\n255\n", "its header has no width"),
    "no side": (b"P6\n0 2\n255\n", "width must be from 1"),
    "a side beyond all numbers": (b"P6\n99999999999999999999 2\n255\n", "its header has no width"),
    "more pixels than memory": (b"P6\n16000000 16000000\n255\n", "claims more than 89478485 pixels"),
    "too many levels": (b"P6\n4 2\n65536\n" + bytes(48), "largest value must be from 1 to 65535"),
    "no levels": (b"P6\n4 2\n0\n" + bytes(48), "largest value must be from 1 to 65535"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_it_names_what_is_no_image_and_goes_on_with_the_rest(
    program: Path, released: Released, tmp_path: Path, kind: str
) -> None:
    content, sentence = UNREADABLE[kind]
    broken, sound = tmp_path / "broken.ppm", released.pixel_files[0]
    broken.write_bytes(content)
    done = run(program, released.folder, broken, sound, tmp_path / "absent.ppm")
    assert done.returncode == 2
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [str(sound)]
    first, second = done.stderr.splitlines()
    assert first.startswith(f"classify: {broken} ") and re.search(sentence, first)
    assert second == f"classify: {tmp_path}/absent.ppm cannot be opened."


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_named_and_not_waited_for(
    program: Path, released: Released, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    odd, sound = tmp_path / "odd.ppm", released.pixel_files[0]
    make(odd)
    done = run(program, released.folder, odd, sound)
    assert (done.returncode, done.stderr) == (2, f"classify: {odd} is no regular file.\n")
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == [str(sound)]


@pytest.mark.parametrize("name", ["model/model.onnx", "labels.txt", "preprocessing.txt", "verdict.md"])
def test_it_uses_no_release_that_was_changed(program: Path, released: Released, copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    done = run(program, copy, released.pixel_files[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"classify: {copy}/{name} is not the file that was released")
    (copy / name).unlink()
    done = run(program, copy, released.pixel_files[0])
    assert (done.returncode, done.stdout) == (2, "") and f"{copy}/{name} cannot be opened" in done.stderr


@pytest.mark.parametrize("name", ["model/model.onnx", "labels.txt", "preprocessing.txt"])
def test_it_uses_nothing_that_is_not_under_the_seal(
    program: Path, released: Released, copy: Path, name: str
) -> None:
    sums = copy / "SHA256SUMS"
    sums.write_text("".join(row for row in sums.read_text().splitlines(True) if not row.endswith(f"{name}\n")))
    done = run(program, copy, released.pixel_files[0])
    assert done.returncode == 2 and f"names no {name}" in done.stderr


RESEALED: dict[str, tuple[str, str, str]] = {
    "another number of names": (
        "labels.txt",
        "one\ntwo\n",
        "labels.txt has 2 names, and the model gives 4 scores",
    ),
    "another size": (
        "preprocessing.txt",
        "size 8\nresize 8\ninterpolation bilinear\n",
        "does not take the images",
    ),
    "no size": ("preprocessing.txt", "resize 8\ninterpolation bilinear\n", "`size` is no number of pixels"),
    "a crop larger than the image": (
        "preprocessing.txt",
        "size 9\nresize 8\ninterpolation bilinear\n",
        "is larger than",
    ),
    "an unknown filter": (
        "preprocessing.txt",
        "size 8\nresize 8\ninterpolation lanczos\n",
        "neither bilinear nor",
    ),
    "no model": ("model/model.onnx", "not a model", "OpenVINO cannot read "),
}


@pytest.mark.parametrize("kind", RESEALED)
def test_a_release_of_parts_that_do_not_fit_is_not_used(
    program: Path, released: Released, copy: Path, kind: str
) -> None:
    name, content, sentence = RESEALED[kind]
    (copy / name).write_text(content)
    write_sums(copy)
    done = run(program, copy, released.pixel_files[0])
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(f"^classify: .*{sentence}", done.stderr, re.M)  # OpenVINO's parser may log first


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_it_gives_no_scores_that_are_none(program: Path, released: Released, copy: Path, score: float) -> None:
    onnx.save(not_finite(score), copy / "model/model.onnx")
    write_sums(copy)
    image = released.pixel_files[0]
    done = run(program, copy, image, "--top", "4")
    message = f"classify: {image} cannot be classified: the model gives a score that is not finite.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


WRONG_WORDS = {
    "nothing": [],
    "no image": ["release"],
    "an unknown option": ["release", "image.ppm", "--best", "3"],
    "no value": ["release", "image.ppm", "--top"],
    "a negative count": ["release", "image.ppm", "--top", "-1"],
    "no count": ["release", "image.ppm", "--top", "3x"],
    "an engine that is not there": ["release", "image.ppm", "--engine", "../model"],
    "no release": ["nowhere", "image.ppm"],
}


@pytest.mark.parametrize("words", WRONG_WORDS)
def test_a_wrong_command_line_ends_in_one_sentence_and_exit_2(program: Path, words: str) -> None:
    done = run(program, *WRONG_WORDS[words])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("classify: ") and len(done.stderr.splitlines()) == 1
