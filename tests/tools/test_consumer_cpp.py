"""A release's C++ example is compiled as its README says, and sees and says what evaluate does."""

import random
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from PIL import Image

from steps.backends.engine import Target, build_engine
from steps.backends.runner import open_runner
from steps.images.preprocess import preprocess
from steps.metrics.agreement import log_softmax
from steps.release import _labels
from steps.reports.artifact import write_card
from steps.reports.card import Card, Preprocessing
from steps.reports.release import INDEX, ReleaseCard, write_sums
from tests.backends.tiny import NAMES
from tests.released import BATCH, SIZES, Released, make_release, picture

TOOLS = ("cmake", "g++")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs Debian's {' and '.join(MISSING)}, which is not here")
HOWS = ((16, 16, "bilinear"), (16, 20, "bicubic"), (24, 61, "bilinear"), (64, 73, "bicubic"))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return make_release(tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def program(released: Released, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example that lies in the release, compiled; a warning of the compiler is an error."""
    build = tmp_path_factory.mktemp("cpp")
    found = f"-DOpenVINO_DIR={Path(openvino.__file__).parent / 'cmake'}"
    configure = ["cmake", "-S", str(released.folder / "cpp"), "-B", str(build), found, "-DCMAKE_CXX_FLAGS=-Werror"]
    for command in (configure, ["cmake", "--build", str(build)]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "classify"


@pytest.fixture
def copy(released: Released, tmp_path: Path) -> Path:
    return shutil.copytree(released.folder, tmp_path / "release")


def run(program: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


def prepare_otherwise(release: Path, size: int, resize: int, interpolation: str) -> None:
    """Give the release another preprocessing, and a model that takes images of that size."""
    (release / "preprocessing.txt").write_text(f"size {size}\nresize {resize}\ninterpolation {interpolation}\n")
    model = onnx.load(release / "model/model.onnx")
    for position in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[position].dim_value = size
    onnx.save(model, release / "model/model.onnx")
    write_sums(release)


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
    assert [NAMES.index(name) for _, name, _ in rows[:: len(NAMES)]] == list(expected_NK.argmax(axis=1))
    assert len(set(expected_NK.argmax(axis=1))) > 1  # or this test would show nothing
    for position, (_, name, share) in enumerate(rows):
        assert abs(float(share) - expected_NK[position // len(NAMES), NAMES.index(name)]) <= 1e-3


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


def add_engine(release: Path, target: Target, **changed: object) -> Path:
    """Build another engine into the release, and seal it anew."""
    folder = release / "engines/added"
    folder.mkdir()
    made, _ = build_engine(target, release / "model", folder, None)
    card = Card.read(release / "model/card.json")
    update = {"form": "added", "backend": target.backend, "precision": target.precision, "device": made.device}
    write_card(folder, card.model_copy(update=update | changed))
    index = ReleaseCard.read(release / INDEX)
    index.model_copy(update={"engines": (*index.engines, "added")}).write(release / INDEX)
    write_sums(release)
    return folder


def shares_of(done: "subprocess.CompletedProcess[str]") -> list[list[float]]:
    """Return the probabilities of each image in the order of class ids, of an answer with all classes."""
    rows = [line.split("\t")[1:] for line in done.stdout.splitlines()]
    of_image = [dict(rows[first : first + len(NAMES)]) for first in range(0, len(rows), len(NAMES))]
    return [[float(shares[name]) for name in NAMES] for shares in of_image]


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
    add_engine(copy, Target("openvino", "fp32", BATCH, (), max_side=400), takes="any")
    done = run(program, copy, released.pixel_files[0], "--engine", "added")
    assert (done.returncode, done.stdout) == (2, "") and "card.json says not up to which" in done.stderr


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
    pixels = np.random.default_rng(7).integers(0, 100, 60, dtype=np.uint8).tobytes()  # and some bytes too many
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
    assert re.search(f"^classify: .*{sentence}", done.stderr, re.M)  # OpenVINO's parser may have logged before it


def test_names_come_out_as_they_went_into_the_labels(program: Path, released: Released, copy: Path) -> None:
    names = ("a b", "back\\slash", "two\nlines", "ключ")
    card = released.card.model_copy(update={"class_names": names})
    (copy / "labels.txt").write_text(_labels(card))
    write_sums(copy)
    done = run(program, copy, released.pixel_files[0], "--top", 4)
    assert done.returncode == 0 and all(f"\t{name}\t" in done.stdout for name in names)


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


def test_it_explains_itself(program: Path) -> None:
    done = run(program, "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: classify RELEASE IMAGE.ppm... [--top N]")
