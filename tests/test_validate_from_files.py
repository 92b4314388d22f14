"""validate after ingest: faults planted into files and lists are refused, or left out if that is allowed."""

import io
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from steps.ingest import ingest
from steps.reports.validate import ValidateReport
from steps.split import split
from steps.validate import validate
from tests.commands import Workspace
from tests.images.rows import manifest, write_ingest

REPORT = Path("data/validate/report.json")
ISSUES = Path("data/validate/issues.parquet")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workspace:
    monkeypatch.setattr("steps.validate._write_data_docs", lambda _: None)  # the slowest part, tested once below
    return Workspace(tmp_path, monkeypatch, capsys)


def png(shade: int) -> bytes:
    return encoded("PNG", shade)


def encoded(kind: str, shade: int) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).point(lambda value: (value + shade) % 256).save(file, kind)
    return file.getvalue()


def two_classes(workspace: Workspace) -> Path:
    """Return the folder of ingest.source, with twenty images in each of two class folders."""
    folder = workspace.folder / "data/raw"
    workspace.params["ingest"] = {"source": "data/raw"}
    for number, name in enumerate(("crack", "dent")):
        (folder / name).mkdir(parents=True)
        for shade in range(20):
            (folder / name / f"{shade}.png").write_bytes(png(2 * shade + number))
    return folder


def labels_from(first: int, folder: Path, workspace: Workspace) -> None:
    """Give the classes the ids `first` and `first` + 1 through a list, and set class_num: 2."""
    images = sorted(path.relative_to(folder) for path in folder.glob("*/*.png"))
    (folder / "list.txt").write_text("".join(f"{path} {first + (path.parts[0] == 'dent')}\n" for path in images))
    workspace.params["ingest"] |= {"layout": "list", "lists": {"all": "list.txt"}}
    workspace.params["class_num"] = 2


def one_label_too_high(folder: Path, workspace: Workspace) -> None:
    labels_from(0, folder, workspace)
    listed = (folder / "list.txt").read_text()
    (folder / "list.txt").write_text(listed.replace("crack/3.png 0", "crack/3.png 2"))


def a_truncated_jpeg(folder: Path, _: Workspace) -> None:
    (folder / "crack/cut.jpg").write_bytes(encoded("JPEG", 99)[:-20])


def a_zero_byte_file(folder: Path, _: Workspace) -> None:
    (folder / "dent/nothing.png").touch()


def one_image_in_two_classes(folder: Path, _: Workspace) -> None:
    shutil.copy(folder / "crack/7.png", folder / "dent/seven.png")


FROM_FILES: dict[str, tuple[Callable[[Path, Workspace], None], str]] = {
    "a label equal to class_num": (
        one_label_too_high,
        "1 of 40 images has a label outside 0 .. 1 (class_num: 2): crack/3.png (label 2). "
        "validate.max_label_out_of_range allows 0. Ids start at 0: correct these labels, or set class_num: 3.",
    ),
    "labels from 1 with class_num set": (
        partial(labels_from, 1),
        "validate.max_label_out_of_range allows 0. The labels go from 1 to 2, so they seem to start at 1: "
        "subtract 1 from each.",
    ),
    "a truncated JPEG": (
        a_truncated_jpeg,
        "1 of 41 images is unreadable: crack/cut.jpg (truncated: ends before the image is complete",
    ),
    "a zero-byte file": (
        a_zero_byte_file,
        "1 of 41 images is unreadable: dent/nothing.png (empty: has no bytes).",
    ),
    "one image in two classes": (
        one_image_in_two_classes,
        "2 of 41 images have the same bytes as an image of another class: crack/7.png (labelled 'crack', but "
        "dent/seven.png with the same bytes is labelled 'dent')",
    ),
}


@pytest.mark.parametrize("fault", FROM_FILES)
def test_a_planted_fault_is_refused_from_the_files_on(workspace: Workspace, fault: str) -> None:
    plant, sentence = FROM_FILES[fault]
    folder = two_classes(workspace)
    plant(folder, workspace)
    assert workspace.run(ingest, out="data/ingest")[0] == 0
    code, message = workspace.run(validate, ingest="data/ingest", out="data/validate")
    assert code == 3
    assert sentence in (ValidateReport.read(REPORT).refused or "")
    assert f"validate: {ValidateReport.read(REPORT).refused}" in message


def test_a_class_with_one_image_passes_here_and_is_refused_by_split(workspace: Workspace) -> None:
    folder = two_classes(workspace)
    (folder / "scratch").mkdir()
    (folder / "scratch/only.png").write_bytes(png(77))
    assert workspace.run(ingest, out="data/ingest")[0] == 0
    assert workspace.run(validate, ingest="data/ingest", out="data/validate")[0] == 0
    flags = {"ingest": "data/ingest", "validate": "data/validate", "champion": "data/champion"}
    code, message = workspace.run(split, **flags, out="data/split")
    assert code == 3
    assert "split: class 'scratch' has 1 image; 3 splits of at least 5 need 15. Add images or lower" in message


def test_an_unreadable_image_that_is_allowed_is_left_out_with_a_record_and_pages_to_read(
    workspace: Workspace,
) -> None:
    write_ingest(manifest([0, 1] * 10, faults=[["truncated"]] + [[]] * 19), workspace.folder / "data/ingest")
    workspace.params["validate"]["max_unreadable"] = 1
    code, message = workspace.run_apart("validate", ingest="data/ingest", out="data/validate")
    assert (code, message) == (
        0,
        "validate: 1 of 20 images is unreadable: 000000.png (truncated: ends before the image is complete).\n"
        "validate: 20 images of 2 classes; 1 dropped.\n",
    )
    assert pl.read_parquet(ISSUES).filter("dropped").get_column("name").to_list() == ["000000.png"]
    assert sorted(path.name for path in ISSUES.parent.iterdir()) == ["issues.parquet", "report.json"]
    assert Path(".foldline/data_docs/index.html").is_file()  # contains times, so it is stored elsewhere
