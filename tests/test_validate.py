"""validate: its own key counts, names and refuses each fault; allowed faults are kept or dropped."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from steps.images.faults import FAULTS
from steps.params.validate import ValidateParams
from steps.reports.validate import Finding, ValidateReport
from steps.validate import CLASSES, IMAGES, validate
from tests.commands import Workspace
from tests.images.rows import manifest, write_ingest

REPORT = Path("data/validate/report.json")
ISSUES = Path("data/validate/issues.parquet")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workspace:
    monkeypatch.setattr("steps.validate._write_data_docs", lambda _: None)  # the slowest part, tested once below
    return Workspace(tmp_path, monkeypatch, capsys)


def judge(workspace: Workspace, images: pl.DataFrame) -> tuple[int, str]:
    write_ingest(images, workspace.folder / "data/ingest")
    return workspace.run(validate, ingest="data/ingest", out="data/validate")


def finding(check: str) -> Finding:
    return {found.check: found for found in ValidateReport.read(REPORT).findings}[check]


def with_faults(*faults: str) -> pl.DataFrame:
    """Return 20 images of two classes; the first image has these faults."""
    return manifest([0, 1] * 10, faults=[list(faults)] + [[]] * 19)


# For each expectation: a manifest that breaks only that one (and its consequences), and words of the message.
PLANTED: dict[str, tuple[pl.DataFrame, dict[str, Any], str]] = {
    "label_out_of_range": (
        manifest([0, 1, 2, -1]),
        {},
        "1 of 4 images has a label outside 0 .. 2 (class_num: 3): 000003.png (label -1)",
    ),
    "unreadable": (
        with_faults("truncated"),
        {},
        "1 of 20 images is unreadable: 000000.png (truncated: ends before",
    ),
    "conflicting_duplicates": (
        manifest([0, 0, 1, 1], contents=["a", "b", "a", "c"]),
        {},
        "000000.png (labelled 'c0', but 000002.png with the same bytes is labelled 'c1'), "
        "000002.png (labelled 'c1', but 000000.png with the same bytes is labelled 'c0')",
    ),
    "too_small": (
        manifest([0, 1]),
        {"min_side": 29},
        "2 of 2 images have a side of fewer than 29 pixels: 000000.png",
    ),
    "animated": (with_faults("animated"), {}, "1 of 20 images has several frames"),
    "elongated": (with_faults("elongated"), {}, "1 of 20 images is so long that only the middle is used"),
    "wrong_extension": (
        with_faults("wrong_extension"),
        {},
        "has a format that does not match the file's name: 000000.png",
    ),
    "unusual_modes": (with_faults("cmyk"), {"max_unusual_modes": 0}, "000000.png (cmyk: is in CMYK"),
    "duplicates": (
        manifest([0, 0, 1, 1], contents=["a", "a", "b", "c"]),
        {"max_duplicates": 0},
        "000001.png (the same bytes as 000000.png)",
    ),
    "unused_ids": (manifest([0, 1, 3, 3]), {}, "1 of 4 class ids has no readable image"),
    "small_classes": (manifest([0] * 30 + [1]), {"max_imbalance": 10}, "1 of 2 class ids has fewer images than"),
}


@pytest.mark.parametrize("check", [expectation.check for expectation in (*IMAGES, *CLASSES)])
def test_each_fault_is_refused_by_its_own_sentence_and_key(workspace: Workspace, check: str) -> None:
    images, params, words = PLANTED[check]
    workspace.params["validate"] |= params
    code, message = judge(workspace, images)
    found = finding(check)
    refused = ValidateReport.read(REPORT).refused
    assert code == 3
    assert refused is not None
    assert words in found.sentence
    assert refused.startswith(found.sentence)
    assert f"validate: {refused}" in message
    assert f"{found.key} allows 0." in refused


@pytest.mark.parametrize("expectation", [*IMAGES, *CLASSES], ids=lambda expectation: expectation.check)
def test_each_expectation_has_a_key_that_allows_it(workspace: Workspace, expectation: Any) -> None:
    images, params, _ = PLANTED[expectation.check]
    assert expectation.key in ValidateParams.model_fields
    workspace.params["validate"] |= {**params, expectation.key: 2}
    code, message = judge(workspace, images)
    assert code == 0, message
    assert finding(expectation.check).count >= 1
    assert ValidateReport.read(REPORT).refused is None


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_that_ingest_can_name_is_judged_or_set_right(workspace: Workspace, fault: str) -> None:
    judge(workspace, with_faults(fault))
    issues = pl.read_parquet(ISSUES).rows(named=True)
    if FAULTS[fault].kind == "rotated":  # EXIF orientation is always applied, so such images have no fault
        assert issues == []
        return
    (issue,) = issues
    assert (issue["name"], issue["label"]) == ("000000.png", 0)
    assert FAULTS[fault].meaning in issue["detail"]
    assert issue["dropped"] == (FAULTS[fault].kind == "unreadable")


def test_sound_images_pass_and_are_counted(workspace: Workspace) -> None:
    code, message = judge(workspace, manifest([0] * 30 + [1] * 10))
    report = ValidateReport.read(REPORT)
    assert (code, report.refused, report.dropped, report.class_num) == (0, None, 0, 2)
    assert report.images_per_class == {"c0": 30, "c1": 10}
    assert report.imbalance == 3.0
    assert message == "validate: 40 images of 2 classes; 0 dropped.\n"
    assert pl.read_parquet(ISSUES).is_empty()


def test_class_num_is_held_against_the_labels(workspace: Workspace) -> None:
    workspace.params["class_num"] = 3
    assert judge(workspace, manifest([0, 1, 2]))[0] == 0
    code, message = judge(workspace, manifest([0, 1, 2, 3]))
    assert code == 3
    assert "000003.png (label 3)" in message
    assert "set class_num: 4" in message


@pytest.mark.parametrize(
    ("folders", "advice"),
    [
        (
            ["real/circle", "real/square", "real/star", "real/tree/old"],
            "If the classes are circle, square, star, ..., let ingest.source end in real,",
        ),
        (["circle"] * 4, "Add images of another class."),
        (["."] * 4, "Add images of another class."),
    ],
)
def test_one_class_is_refused_and_the_folder_that_was_meant_is_named(
    workspace: Workspace, folders: list[str], advice: str
) -> None:
    images = manifest([0] * 4)
    names = [f"{folder}/{name}" for folder, name in zip(folders, images["name"], strict=True)]
    code, refused = judge(workspace, images.with_columns(name=pl.Series(names)))
    assert code == 3
    assert f"all 4 images are of one class, 'c0'; a classifier needs two or more classes. {advice}" in refused


def test_labels_that_count_from_1_are_told_so(workspace: Workspace) -> None:
    for class_num in ("auto", 3):
        workspace.params["class_num"] = class_num
        code, message = judge(workspace, manifest([1, 2, 3]))
        assert code == 3
        assert "The labels go from 1 to 3, so they seem to start at 1: subtract 1 from each." in message


def test_labels_with_gaps_are_not_told_to_subtract(workspace: Workspace) -> None:
    code, refused = judge(workspace, manifest([1, 2, 10]))
    assert code == 3
    assert "The labels are 3 different integers from 1 to 10, with gaps." in refused
    assert "set ingest.labels: names" in refused and "subtract" not in refused


def test_a_huge_label_costs_neither_memory_nor_a_crash(workspace: Workspace) -> None:
    code, message = judge(workspace, manifest([0, 1, 2**40]))
    assert code == 3
    assert f"{2**40 - 2} of {2**40 + 1} class ids have no readable image" in message
    assert len(ValidateReport.read(REPORT).unused_ids) == 100


def test_who_carries_the_largest_id_is_said_where_ids_are_unused(workspace: Workspace) -> None:
    code, message = judge(workspace, manifest([0, 1, 2] * 5 + [7]))
    assert code == 3
    assert (
        "4 of 8 class ids have no readable image, so the last layer could not learn these classes: 3, 4, 5 and 1 "
        in message
    )
    assert "allow more; the largest id, 7, is the label of 1 image: 000015.png." in message
    judge(workspace, manifest([0, 1] + [3] * 5))
    assert "the label of 5 images: 000002.png, 000003.png, 000004.png and 2 more." in (
        ValidateReport.read(REPORT).refused or ""
    )


def test_images_with_good_labels_are_not_blamed_for_others(workspace: Workspace) -> None:
    message = judge(workspace, manifest([0, 1, 2, -1]))[1]
    assert "000003.png (label -1)" in message and "Ids start at 0: correct these labels." in message
    assert "000002.png" not in message
    workspace.params["class_num"] = 5
    message = judge(workspace, manifest([0, 1, 2]))[1]
    assert "2 of 5 class ids have no readable image" in message
    assert "The largest id is 2: set class_num: 3, add the missing images" in message and ".png" not in message
    workspace.params["class_num"] = "auto"
    message = judge(workspace, manifest([0, 2, 3]))[1]
    assert "1 of 4 class ids has no readable image" in message and ".png" not in message


def test_several_faults_are_all_said_and_the_worst_is_the_sentence(workspace: Workspace) -> None:
    code, message = judge(workspace, manifest([0, 1, 3, 3], faults=[["empty"], [], [], []]))
    assert code == 3
    refused = ValidateReport.read(REPORT).refused or ""
    assert refused.startswith("1 of 4 images is unreadable: 000000.png (empty: has no bytes)")
    assert refused.endswith("More faults exceed their allowance: unused_ids (2).")
    assert "2 of 4 class ids have no readable image" in message


def test_a_name_with_control_characters_stays_on_its_line(workspace: Workspace) -> None:
    images = with_faults("empty").with_columns(pl.col("name").replace("000000.png", "a\nrefused: no\x1b[2J.png"))
    message = judge(workspace, images)[1]
    assert "a\\nrefused: no\\x1b[2J.png" in message


def test_the_same_manifest_gives_the_same_bytes(workspace: Workspace) -> None:
    images = manifest([0, 1] * 50, contents=[str(number % 30) for number in range(100)])
    workspace.params["validate"] |= {"max_conflicting_duplicates": 100}
    outputs = []
    for order in (images, images.reverse()):
        judge(workspace, order)
        outputs.append((REPORT.read_bytes(), ISSUES.read_bytes()))
    assert outputs[0] == outputs[1]


def test_a_manifest_that_breaks_its_contract_is_bad_input(workspace: Workspace) -> None:
    code, message = judge(workspace, manifest([0, 1]).with_columns(pl.lit("no hash").alias("checksum")))
    assert code == 2
    assert "breaks its contract in column(s) checksum" in message
    assert not REPORT.exists()


def test_an_expectation_that_raises_is_a_crash_and_not_a_verdict(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steps.validate.NEVER_NULL", ("name", "no such column"))
    with pytest.raises(RuntimeError, match="no such column"):
        judge(workspace, manifest([0, 1]))


# From image files through ingest: the faults that users have.
