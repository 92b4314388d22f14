"""A release's own predict.py, run in an environment where no module of this repository can be imported."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import PIL
import polars as pl
import pytest
from PIL import Image

from steps.errors import BadInput
from steps.metrics.agreement import log_softmax
from steps.reports.release import check_sums, write_sums
from tests.backends.tiny import NAMES, not_finite
from tests.judged import released

WITH_A_FOLDER = (
    "import runpy, sys; sys.path.append(sys.argv[1]); sys.argv[:] = sys.argv[2:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.fixture
def line(judged_line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "line"
    shutil.copytree(judged_line, root)
    monkeypatch.chdir(root)
    return root


def predict(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the release's own predict.py where no module of this repository can be imported."""
    command = [sys.executable, "-I", str(folder / "predict.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)


def test_predict_gives_the_classes_and_probabilities_of_evaluate(line: Path) -> None:
    released()
    scores = pl.read_parquet("data/evaluate/export.parquet")
    done = predict(line / "data/release", "--top", "4", *(str(line / "files" / name) for name in scores["id"]))
    assert done.returncode == 0, done.stderr
    rows = [text.split("\t") for text in done.stdout.splitlines()]
    logits_NK: npt.NDArray[np.float32] = np.array(scores["scores"].to_list(), np.float32)
    expected_NK = np.exp(log_softmax(logits_NK))
    found_NK = np.full(expected_NK.shape, np.nan)
    images = {str(line / "files" / name): number for number, name in enumerate(scores["id"])}
    for path, number, name, share in rows:
        assert name == NAMES[int(number)]
        found_NK[images[path], int(number)] = float(share)
    assert np.abs(found_NK - expected_NK).max() <= 1e-3
    assert (found_NK.argmax(axis=1) == logits_NK.argmax(axis=1)).all()


def test_predict_needs_three_packages_and_nothing_else(line: Path, tmp_path: Path) -> None:
    released()
    for package in (np, onnxruntime, PIL):
        folder = Path(package.__file__ or "").parent
        libraries = folder.parent / {"PIL": "pillow.libs"}.get(folder.name, f"{folder.name}.libs")
        for needed in (folder, *([libraries] if libraries.is_dir() else [])):
            (tmp_path / "only").mkdir(exist_ok=True)
            (tmp_path / "only" / needed.name).symlink_to(needed)
    words = [str(tmp_path / "only"), str(line / "data/release/predict.py"), str(line / "files/000.png")]
    command = [sys.executable, "-I", "-S", "-c", WITH_A_FOLDER, *words]  # -S: without this environment's packages
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=line)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith(words[-1])


@pytest.mark.parametrize("name", ["model/model.onnx", "model/card.json", "labels.txt", "ledger.parquet"])
def test_predict_uses_no_release_that_was_changed(line: Path, name: str) -> None:
    released()
    folder = line / "data/release"
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    done = predict(folder, str(line / "files/000.png"))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and name in done.stderr and "was released" in done.stderr


@pytest.mark.parametrize("content", [b"", b"no list\n", b"\xff\xfe\x00\n"])
def test_a_seal_that_is_no_list_is_one_sentence(line: Path, content: bytes) -> None:
    released()
    folder = line / "data/release"
    (folder / "SHA256SUMS").write_bytes(content)
    done = predict(folder, str(line / "files/000.png"))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    with pytest.raises(BadInput, match="SHA256SUMS is no list of checksums and paths"):
        check_sums(folder)


def test_predict_needs_its_model_under_the_seal(line: Path) -> None:
    released()
    sums = line / "data/release/SHA256SUMS"
    sums.write_text("".join(row for row in sums.read_text().splitlines(True) if "model/model.onnx" not in row))
    assert predict(sums.parent, str(line / "files/000.png")).returncode == 2


def test_predict_names_what_is_no_image_and_goes_on_with_the_rest(line: Path) -> None:
    released()
    broken, sound, absent = line / "broken.jpg", line / "files/000.png", line / "absent.png"
    Image.new("RGB", (64, 64)).save(broken)
    broken.write_bytes(broken.read_bytes()[:100])
    done = predict(line / "data/release", str(broken), str(sound), str(absent))
    assert done.returncode == 2
    assert [row.split("\t")[0] for row in done.stdout.splitlines()] == [str(sound)]
    assert [str(path) in row for path, row in zip((broken, absent), done.stderr.splitlines(), strict=True)] == [
        True
    ] * 2


def test_predict_says_when_its_runtime_cannot_run_the_model(line: Path) -> None:
    released()
    folder = line / "data/release"
    (folder / "model/model.onnx").write_bytes(b"of a later opset")
    write_sums(folder)
    done = predict(folder, str(line / "files/000.png"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("predict: onnxruntime ") and "cannot run model/model.onnx" in done.stderr


@pytest.mark.parametrize("score", [np.nan, np.inf])
def test_predict_gives_no_scores_that_are_none(line: Path, score: float) -> None:
    released()
    folder = line / "data/release"
    onnx.save(not_finite(score), folder / "model/model.onnx")
    write_sums(folder)
    done = predict(folder, str(line / "files/000.png"))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith(f"predict: {line}/files/000.png cannot be classified: ")
    assert "a score that is not finite" in done.stderr


CARDS: dict[str, Callable[[dict[str, Any]], object]] = {
    "nothing": dict.clear,
    "no names": lambda card: card.update(class_names=None),
    "names that are none": lambda card: card.update(class_names=[1, 2, 3, 4]),
    "another number of names": lambda card: card.update(class_names=["one"]),
    "no preprocessing": lambda card: card.update(preprocessing=[]),
    "another size": lambda card: card["preprocessing"].update(size=8),
    "no size": lambda card: card["preprocessing"].update(size="16"),
    "an unknown filter": lambda card: card["preprocessing"].update(interpolation=["lanczos"]),
}


@pytest.mark.parametrize("change", CARDS)
def test_predict_uses_no_card_that_says_too_little_or_is_not_of_its_model(line: Path, change: str) -> None:
    released()
    file = line / "data/release/model/card.json"
    card = json.loads(file.read_text())
    CARDS[change](card)
    file.write_text(json.dumps(card))
    write_sums(line / "data/release")
    done = predict(line / "data/release", str(line / "files/000.png"))
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert done.stderr.startswith(f"predict: {file} ") and "fetch the release again" in done.stderr


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--top", "0", "'0' is no whole number of at least 1"),
        ("--threads", "-5", "'-5' is no whole number of at least 1"),
        ("--threads", "99999999999", "99999999999 threads are more than the "),
    ],
)
def test_predict_takes_no_number_for_another(line: Path, flag: str, value: str, sentence: str) -> None:
    released()
    done = predict(line / "data/release", str(line / "files/000.png"), flag, value)
    assert (done.returncode, done.stdout) == (2, "") and f"argument {flag}: {sentence}" in done.stderr


def test_predict_waits_for_no_pipe(line: Path) -> None:
    released()
    os.mkfifo(line / "pipe.png")
    done = predict(line / "data/release", str(line / "pipe.png"), str(line / "files/000.png"))
    assert (done.returncode, done.stderr) == (2, f"predict: {line}/pipe.png is no regular file.\n")
    assert done.stdout.startswith(f"{line}/files/000.png\t")


def test_predict_keeps_names_of_any_bytes(line: Path) -> None:
    released()
    odd = os.fsencode(line) + b"/\xff.png"
    shutil.copyfile(line / "files/000.png", odd)
    command = [sys.executable, "-I", str(line / "data/release/predict.py"), os.fsdecode(odd)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=line)
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.startswith(odd + b"\t")


def test_predict_is_used_from_a_program_as_the_readme_says(line: Path) -> None:
    released()
    lines = Path("data/release/README.md").read_text().splitlines()
    first = next(number for number, text in enumerate(lines) if "from predict import" in text)
    told = "\n".join(text[4:] for text in lines[first : lines.index("", first)])
    told = told.replace("path/to/this/folder", str(line / "data/release")).replace("photo.jpg", "files/000.png")
    shutil.copyfile("data/release/predict.py", line / "predict.py")
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False, cwd=line)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in NAMES
