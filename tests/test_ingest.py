"""Ingest as a whole: the outputs for the next step, the same bytes each time, and the exit codes."""

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from steps.errors import BadInput, Refused
from steps.images.dataset import PLACE, image_root, load_all, read_bytes
from steps.images.manifest import read_manifest
from steps.images.sources import samples
from steps.ingest import ingest
from steps.params.ingest import IngestParams
from steps.reports.card import Preprocessing
from steps.reports.classes import Classes
from steps.reports.ingest import IngestReport
from tests.reference_params import reference_params

ROOT = Path(__file__).parent.parent
DIGITS = str(ROOT / "data/samples/digits.yaml")
AS_IS = Preprocessing(size=8, resize=8, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))


def picture(seed: int, kind: str = "PNG") -> bytes:
    noise_HWC = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise_HWC).save(content, kind)
    return content.getvalue()


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Six files in two classes: one is truncated, one is empty, one is a link out of the folder."""
    root = tmp_path / "photographs"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
    (root / "cat/1.png").write_bytes(picture(1))
    (root / "cat/2.png").write_bytes(picture(2))
    (root / "dog/3.png").write_bytes(picture(3))
    (root / "dog/cut.jpg").write_bytes(picture(4, "JPEG")[:-2])
    (root / "dog/none.jpg").write_bytes(b"")
    (root / "dog/link.png").symlink_to("/etc/hostname")
    (root / "dog/notes.txt").write_text("about dogs")
    return root


def run(tmp_path: Path, name: str = "ingest", **params: object) -> Path:
    out = tmp_path / name
    out.mkdir()
    ingest(IngestParams.model_validate(params), out)
    return out


def test_every_file_has_a_row_with_its_facts_and_faults(photographs: Path, tmp_path: Path) -> None:
    out = run(tmp_path, source=str(photographs))
    rows = read_manifest(out / "manifest.parquet")
    assert dict(rows.select("name", "faults").iter_rows()) == {
        "cat/1.png": [], "cat/2.png": [], "dog/3.png": [],
        "dog/cut.jpg": ["truncated"], "dog/link.png": ["outside_root"], "dog/none.jpg": ["empty"],
    }  # fmt: skip
    assert rows["label"].to_list() == [0, 0, 1, 1, 1, 1]
    assert rows["width"].to_list() == [8, 8, 8, 8, None, None]
    assert Classes.read(out / "classes.json").names == {0: "cat", 1: "dog"}
    report = IngestReport.read(out / "report.json")
    assert report.faults == {"empty": 1, "outside_root": 1, "truncated": 1}
    assert (report.images, report.classes, report.sources) == (6, 2, {"real": 6})
    assert (report.skipped, report.skipped_examples) == (1, ("dog/notes.txt",))
    assert not (out / "images.tar").exists()


def test_the_sound_images_are_read_from_where_they_lie(photographs: Path, tmp_path: Path) -> None:
    out = run(tmp_path, source=str(photographs))
    sound = read_manifest(out / "manifest.parquet").filter(pl.col("faults").list.len() == 0)
    images_NHWC_u8 = load_all(sound, image_root(out), AS_IS)
    expected = [np.asarray(Image.open(io.BytesIO(picture(seed)))) for seed in (1, 2, 3)]
    assert np.array_equal(images_NHWC_u8, np.stack(expected))


def test_the_projects_own_folder_is_not_taken_for_ingests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "t.csv").write_text("path,label\na.png,0\n")
    out = run(tmp_path, source="t.csv")
    assert image_root(out) == Path()
    (place,) = read_manifest(out / "manifest.parquet").select(PLACE).rows()
    assert read_bytes(image_root(out), place) == picture(1)


def test_a_sample_is_packed_with_its_pixels_unchanged(tmp_path: Path) -> None:
    out = run(tmp_path, source=DIGITS)
    rows = read_manifest(out / "manifest.parquet")
    listing = samples.digits()
    assert listing.pixels is not None
    assert rows["faults"].list.len().sum() == 0
    assert image_root(out) == out
    order = np.argsort(listing.rows["name"].to_numpy())
    images_NHWC_u8 = load_all(rows, out, AS_IS)
    assert np.array_equal(images_NHWC_u8[..., 0], np.stack(listing.pixels)[order])
    with tarfile.open(out / "images.tar") as tar:
        places = {member.name: (member.offset_data, member.size) for member in tar}
    assert {
        name: (offset, length) for name, offset, length in rows.select("name", "offset", "length").rows()
    } == places


def test_the_same_images_are_the_same_bytes(photographs: Path, tmp_path: Path) -> None:
    images_NHW_u8 = np.arange(96, dtype=np.uint8).reshape(6, 4, 4)
    for kind, array in (("images-idx3", images_NHW_u8), ("labels-idx1", np.arange(6, dtype=np.uint8) % 2)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (tmp_path / f"few-{kind}-ubyte").write_bytes(header + array.tobytes())
    sources = {"idx": str(tmp_path / "few-images-idx3-ubyte"), "folders": str(photographs)}
    for name, source in sources.items():
        first, second = (run(tmp_path, f"{name}{number}", source=source) for number in (1, 2))
        assert contents(first) == contents(second)
    for path in photographs.rglob("*.png"):
        if not path.is_symlink():
            os.utime(path, (0, 0))
    assert contents(run(tmp_path, "later", source=str(photographs))) == contents(first)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_classes_that_are_never_trained_are_said(tmp_path: Path) -> None:
    for name in ("train/cat", "train/dog", "test/dog", "test/owl"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.png").write_bytes(picture(len(name)))
    report = IngestReport.read(run(tmp_path, source=str(tmp_path / "data")) / "report.json")
    assert report.layout == "split_folders"
    assert report.ready_splits == {"test": 2, "train": 2}
    assert report.classes_without_train == ("owl",)


def test_a_source_without_one_readable_image_is_refused_with_figures(tmp_path: Path) -> None:
    (tmp_path / "data/cat").mkdir(parents=True)
    (tmp_path / "data/cat/1.jpg").write_bytes(b"")
    with pytest.raises(Refused, match="none of the 1 images") as refusal:
        run(tmp_path, source=str(tmp_path / "data"))
    assert isinstance(refusal.value.report, IngestReport)
    assert refusal.value.report.faults == {"empty": 1}


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


def test_files_that_are_not_images_are_counted_by_kind(tmp_path: Path) -> None:
    (tmp_path / "data/cat").mkdir(parents=True)
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / "data/cat" / name).write_bytes(LFS)
    with pytest.raises(Refused, match=r"not_an_image; a Git LFS pointer; run `git lfs pull`"):
        run(tmp_path, "refused", source=str(tmp_path / "data"))
    (tmp_path / "data/cat/3.png").write_bytes(picture(3))
    (tmp_path / "data/cat/4.png").write_bytes(b"<html></html>")
    report = IngestReport.read(run(tmp_path, source=str(tmp_path / "data")) / "report.json")
    assert report.notes == (
        "3 file(s) are not images: 2 x a Git LFS pointer; run `git lfs pull`, 1 x an HTML page, such as a server "
        "sends in place of an image; download the image again",
    )


def test_missing_images_with_a_similar_path_come_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/a.png").write_bytes(picture(1))
    (tmp_path / "x/b.png").write_bytes(picture(2))
    (tmp_path / "t.csv").write_text("path,label\nx/a.png,0\nx\\b.png,1\n")
    report = IngestReport.read(run(tmp_path, source=str(tmp_path / "t.csv")) / "report.json")
    hint = "'x\\b.png' is not there, but 'x/b.png' is: write / and not \\"
    assert f"1 image(s) are missing; {hint}" in report.notes
    (tmp_path / "t.csv").write_text("path,label\nX/a.png,0\nX/b.png,1\n")
    with pytest.raises(Refused, match=r"none of the 2 images.*'X/a.png' is not there, but 'x/a.png' is"):
        run(tmp_path, "refused", source=str(tmp_path / "t.csv"))


def test_what_was_merged_is_in_the_report_and_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("a/x", "a/y", "b/x")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.png").write_bytes(picture(number))
    report = IngestReport.read(run(tmp_path, source=str(tmp_path / "data")) / "report.json")
    sentence = "3 images in 3 folder(s) below the class folders were merged into 2 class(es): a/x, a/y, b/x"
    assert report.notes[0].startswith(sentence)
    assert sentence in capsys.readouterr().err


def test_similar_names_are_kept_only_where_the_key_says_so(tmp_path: Path) -> None:
    for number, name in enumerate(("Cat", "cat")):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.png").write_bytes(picture(number))
    with pytest.raises(Refused, match="'Cat' and 'cat' differ only in upper and lower case"):
        run(tmp_path, "refused", source=str(tmp_path / "data"))
    out = run(tmp_path, source=str(tmp_path / "data"), alike_names="keep")
    assert Classes.read(out / "classes.json").names == {0: "Cat", 1: "cat"}


def test_class_folders_without_a_file_are_nothing_to_read(tmp_path: Path) -> None:
    (tmp_path / "data/cat").mkdir(parents=True)
    with pytest.raises(Refused, match="nothing to read"):
        run(tmp_path, source=str(tmp_path / "data"))


@pytest.mark.parametrize("below", ["data", "data/cat"])
def test_nothing_to_read_says_that_a_clone_does_not_bring_images(tmp_path: Path, below: str) -> None:
    (tmp_path / below).mkdir(parents=True)
    with pytest.raises(Refused, match=r"nothing to read.*fresh clone does not contain .* `dvc pull`"):
        run(tmp_path, source=str(tmp_path / "data"))
    with pytest.raises(BadInput, match=r"is not there.*fresh clone does not contain .* `dvc pull`"):
        run(tmp_path, "second", source=str(tmp_path / "elsewhere"))


def test_what_git_and_dvc_leave_is_not_among_the_skipped_files(tmp_path: Path) -> None:
    (tmp_path / "data/cat").mkdir(parents=True)
    (tmp_path / "data/cat/1.png").write_bytes(picture(1))
    for name in (".gitkeep", ".gitignore", "cat/.gitignore", "more.dvc", "notes.txt"):
        (tmp_path / "data" / name).touch()
    report = IngestReport.read(run(tmp_path, source=str(tmp_path / "data")) / "report.json")
    assert (report.skipped, report.skipped_examples) == (1, ("notes.txt",))


def test_fashion_mnist_says_where_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "FASHION_PLACES", (tmp_path / "nowhere", tmp_path / "downloads"))
    monkeypatch.setattr(samples, "FASHION_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(BadInput, match="dataset-fashion-mnist"):
        samples.fashion_mnist()


def test_a_changed_fashion_mnist_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "FASHION_PLACES", (tmp_path,))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"other images"))
    with pytest.raises(BadInput, match="checksum"):
        samples.fashion_mnist()


@pytest.mark.parametrize(
    ("source", "exit_code", "message"),
    [
        ("photographs", 0, "ingest: 6 images in 2 classes (folders)"),
        ("nowhere", 2, "ingest: ingest.source: nowhere is not there"),
        ("empty", 3, "ingest: nothing to read: empty holds"),
    ],
)
def test_the_command_lines_exit_codes(
    photographs: Path, tmp_path: Path, source: str, exit_code: int, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**reference_params(), "ingest": {"source": source}}))
    done = subprocess.run(
        [sys.executable, "-m", "steps.ingest", "--params", "own.yaml", "--out", "data/ingest"],
        cwd=photographs.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == exit_code, done.stderr
    assert message in done.stderr
    written = {path.name for path in (tmp_path / "data").rglob("*") if path.is_file()}
    everything = {"manifest.parquet", "classes.json", "report.json"}
    assert written == {0: everything, 2: set(), 3: {"report.json"}}[exit_code]
    if exit_code == 3:
        assert message.removeprefix("ingest: ") in (
            IngestReport.read(tmp_path / "data/ingest/report.json").refused or ""
        )
