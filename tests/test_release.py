"""release: what was judged is what ships, whole, sealed, and usable with nothing of this repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from PIL import Image

import steps.evaluate
from steps.errors import BadInput, Refused
from steps.evaluate import evaluate
from steps.gate import gate
from steps.metrics.agreement import log_softmax
from steps.params.gate import GateParams
from steps.params.release import ReleaseParams
from steps.release import release
from steps.reports.artifact import write_card
from steps.reports.base import read_refusal
from steps.reports.card import Card
from steps.reports.release import INDEX, ReleaseCard, check_sums, write_sums
from steps.reports.verdict import Verdict
from tests.backends.tiny import NAMES, onnx_model, probe_images, reference, run_step_in, weights, write_exported
from tests.backends.tiny import write_images as write_data

ENGINES = ("onnxruntime-fp32", "openvino-fp32", "openvino-int8")
WITHHELD = ENGINES[-1]
IMAGES = 100
LENIENT = GateParams(required=("export",), max_top1_drop=0.5, max_recall_drop=1)  # for twenty test images
RELEASE = {"gate": "data/gate", "model": "data/export/model", "build": "data/build", "ledger": "ledger.parquet"}


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A line whose forms are one tiny graph, evaluated and judged; the last engine is another, and withheld."""
    root = tmp_path_factory.mktemp("line")
    write_data(root, IMAGES)
    _label_as_the_network_says(root)
    made_from = None
    folders = {form: root / f"data/{form}/model" for form in ("train", "fuse", "export")}
    folders |= {engine: root / "data/build" / engine for engine in ENGINES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            steps.evaluate, "_note_latency", lambda *_: None
        )  # seconds of measuring that nothing here reads
        (root / "data/evaluate").mkdir(parents=True)
        for form, folder in folders.items():
            card = _write_form(folder, form, made_from)
            made_from = card.artifact if form in ("train", "fuse", "export") else made_from
            evaluate(form, folder, root / "ingest", root / "split", root / "data/evaluate")
        (root / "champion").mkdir()
        (root / "champion/champion.json").write_text('{"accepted": false}')
        evaluate("champion", root / "champion", root / "ingest", root / "split", root / "data/evaluate")
        patch.chdir(root)
        gate(LENIENT, ENGINES, Path("data/evaluate"), Path("data/gate"))
    pl.DataFrame({"key": [1], "split": ["test"]}).write_parquet(root / "ledger.parquet")
    return root


def _label_as_the_network_says(root: Path) -> None:
    said = reference(probe_images(IMAGES), weights()).argmax(axis=1)
    manifest = pl.read_parquet(root / "split/manifest.parquet")
    manifest.with_columns(label=pl.Series(said)).write_parquet(root / "split/manifest.parquet")


def _write_form(folder: Path, form: str, made_from: str | None) -> Card:
    card = write_exported(folder, onnx_model(weights(seed=1 if form == WITHHELD else 0)))
    (folder / "report.json").write_text("{}")  # as build leaves one beside an engine
    return write_card(folder, card.model_copy(update={"form": form, "made_from": made_from}))


@pytest.fixture
def line(judged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "line"
    shutil.copytree(judged, root)
    monkeypatch.chdir(root)
    return root


def released(out: Path = Path("data/release")) -> ReleaseCard:
    out.mkdir(parents=True)
    release(ReleaseParams(), **{name: Path(path) for name, path in RELEASE.items()}, out=out)
    return ReleaseCard.read(out / INDEX)


def predict(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the release's own predict.py where nothing of this repository can be imported."""
    command = [sys.executable, "-I", str(folder / "predict.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)


def test_a_release_holds_what_passed_and_says_what_did_not(line: Path) -> None:
    index = released()
    assert index.engines == ENGINES[:-1]
    assert list(index.withheld) == [WITHHELD] and index.withheld[WITHHELD].startswith("fail: ")
    files = {
        path.relative_to("data/release").as_posix() for path in Path("data/release").rglob("*") if path.is_file()
    }
    artifacts = {"model", *(f"engines/{engine}" for engine in index.engines)}
    assert files == {
        *(f"{folder}/{name}" for folder in artifacts for name in ("model.onnx", "card.json", "probes.npz")),
        *(
            "README.md",
            "cpp/CMakeLists.txt",
            "cpp/classify.cpp",
            "cpp/image.hpp",
            "cpp/release.hpp",
            "labels.txt",
            "ledger.parquet",
            "predict.py",
            "preprocessing.txt",
            "verdict.json",
            "verdict.md",
            "release.json",
            "SHA256SUMS",
        ),
    }
    assert set(index.files) == files - {"release.json", "SHA256SUMS"}
    assert Path("data/release/labels.txt").read_text().splitlines() == list(NAMES)
    assert Path("data/release/preprocessing.txt").read_text() == "size 16\nresize 16\ninterpolation bilinear\n"
    assert line.is_dir()


@pytest.mark.usefixtures("line")
def test_the_seal_is_what_sha256sum_checks() -> None:
    released()
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd="data/release", capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    check_sums(Path("data/release"))


@pytest.mark.usefixtures("line")
def test_the_same_line_gives_the_same_bytes() -> None:
    released(Path("one"))
    released(Path("two"))
    for path in Path("one").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (Path("two") / path.relative_to("one")).read_bytes(), path


@pytest.mark.usefixtures("line")
@pytest.mark.parametrize("judgement", ["fail", "inconclusive", "deferred"])
def test_nothing_ships_without_a_passing_verdict(judgement: str) -> None:
    verdict = Verdict.read(Path("data/gate/verdict.json"))
    verdict.model_copy(update={"judgement": judgement}).write(Path("data/gate/verdict.json"))
    with pytest.raises(Refused, match=f"no passing verdict.*'{judgement}'"):
        released()


@pytest.mark.usefixtures("line")
def test_the_gates_own_sentence_is_told() -> None:
    verdict = Verdict.read(Path("data/gate/verdict.json"))
    verdict.model_copy(update={"refused": "export: top1_drop 0.2"}).write(Path("data/gate/verdict.json"))
    with pytest.raises(Refused, match=r"the gate refused: export: top1_drop 0\.2"):
        released()


def _other_weights(folder: Path) -> None:
    made_from = Card.read(folder / "card.json").made_from
    write_exported(folder, onnx_model(weights(seed=2)))
    card = Card.read(folder / "card.json")
    write_card(folder, card.model_copy(update={"made_from": made_from}))


def _other_names(folder: Path) -> None:
    card = Card.read(folder / "card.json")
    card.model_copy(update={"class_names": tuple(reversed(card.class_names))}).write(folder / "card.json")


def _one_bit(folder: Path) -> None:
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(bytes(content))


CHANGES = {"trained anew": _other_weights, "other class names": _other_names, "one bit": _one_bit}


@pytest.mark.usefixtures("line")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("form", "folder"), [("export", "data/export/model"), (ENGINES[0], f"data/build/{ENGINES[0]}")]
)
def test_a_model_that_is_not_the_one_that_was_judged_does_not_ship(change: str, form: str, folder: str) -> None:
    CHANGES[change](Path(folder))
    with pytest.raises(Refused, match=f"^{form}: the model on disk is not the one that was judged"):
        released()


@pytest.mark.usefixtures("line")
def test_a_missing_ledger_is_named() -> None:
    Path("ledger.parquet").unlink()
    with pytest.raises(BadInput, match=r"ledger\.parquet is not there"):
        released()


def test_the_command_line_writes_the_release_or_refuses_with_exit_3(line: Path) -> None:
    flags = {**RELEASE, "out": "data/release"}
    done = run_step_in(line, "release", flags)
    assert done.returncode == 0, done.stderr
    check_sums(line / "data/release")
    _one_bit(line / "data/export/model")
    refused = run_step_in(line, "release", flags)
    assert refused.returncode == 3
    assert refused.stderr.startswith("release: export: the model on disk")
    assert read_refusal(line / "data/release/report.json") is not None
    assert not (line / "data/release/predict.py").exists()


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
    for path, name, share in rows:
        found_NK[images[path], NAMES.index(name)] = float(share)
    assert np.abs(found_NK - expected_NK).max() <= 1e-3
    assert (found_NK.argmax(axis=1) == logits_NK.argmax(axis=1)).all()


@pytest.mark.parametrize("name", ["model/model.onnx", "model/card.json", "labels.txt", "ledger.parquet"])
def test_predict_uses_no_release_that_was_changed(line: Path, name: str) -> None:
    released()
    folder = line / "data/release"
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    done = predict(folder, str(line / "files/000.png"))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1 and name in done.stderr and "was released" in done.stderr


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
