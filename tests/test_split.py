"""split: a manifest with splits, a ledger for the next split, and refusals that name the class or the images."""

import json
import re
from pathlib import Path

import polars as pl
import pytest

from steps.reports.split import SplitReport
from steps.reports.validate import ValidateReport
from steps.split import split
from tests.commands import Workspace
from tests.images.rows import manifest
from tests.split_runs import FLAGS, OUT, accept, placed, report, run_split


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workspace:
    return Workspace(tmp_path, monkeypatch, capsys)


def test_every_class_is_dealt_out_by_the_shares_and_the_report_says_that_there_is_no_memory(
    workspace: Workspace,
) -> None:
    code, message = run_split(workspace, manifest([0] * 100 + [1] * 40))
    assert code == 0
    assert report().per_class == {
        "c0": {"train": 65, "val": 15, "test": 20},
        "c1": {"train": 26, "val": 6, "test": 8},
    }
    assert report().memory == "none: no accepted release yet"
    assert report().off_quota == {}
    assert "91 train, 21 val, 28 test, of 2 classes; memory: none: no accepted release yet" in message
    rows = pl.read_parquet(OUT / "manifest.parquet")
    assert rows.schema["weight"] == pl.Float32
    assert (rows["weight"] == 1).all()
    assert rows["name"].is_sorted()


def test_what_validate_dropped_is_in_no_split(workspace: Workspace) -> None:
    images = manifest([0] * 50)
    run_split(workspace, images, dropped=("000003.png", "000004.png"))
    assert set(images["name"]) - set(placed()) == {"000003.png", "000004.png"}
    assert report().left_out == 2


def test_data_that_validate_refused_are_not_split(workspace: Workspace) -> None:
    run_split(workspace, manifest([0] * 50))
    ValidateReport(refused="3 images are unreadable.").write(Path("data/validate/report.json"))
    code, message = workspace.run(split, **FLAGS)
    assert code == 2
    assert "validate refused these images, so there is nothing to split: 3 images are unreadable." in message


def test_the_same_images_give_the_same_bytes_and_another_seed_others(workspace: Workspace) -> None:
    images, outputs = manifest([0, 1] * 40, groups=["a", None, None, None] * 20), []
    for order, seed in ((images, 0), (images.reverse(), 0), (images, 1)):
        workspace.params["seed"] = seed
        run_split(workspace, order)
        outputs.append({path.name: path.read_bytes() for path in sorted(OUT.iterdir())})
    assert set(outputs[0]) == {"manifest.parquet", "ledger.parquet", "report.json"}
    assert outputs[0] == outputs[1]
    assert outputs[0]["manifest.parquet"] != outputs[2]["manifest.parquet"]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (
            [0] * 40 + [1],
            "class 'c1' has 1 image; 3 splits of at least 5 need 15. Add images or lower split.min_per_class",
        ),
        ([0] * 40 + [1] * 7, "class 'c1' has 7 images; 3 splits of at least 5 need 15."),
        (
            [0] * 40 + [1] * 7 + [2] * 3,
            "class 'c1' has 7 images; 3 splits of at least 5 need 15. Other small classes: 'c2' (3).",
        ),
    ],
    ids=["a class with one image", "seven images", "two small classes"],
)
def test_a_class_that_is_too_small_is_refused_by_name(
    workspace: Workspace, labels: list[int], sentence: str
) -> None:
    code, message = run_split(workspace, manifest(labels))
    assert code == 3
    assert f"split: {sentence}" in message
    assert (report().refused or "").startswith(sentence)
    assert sorted(path.name for path in OUT.iterdir()) == ["report.json"]


def test_small_classes_stay_in_train_only_where_params_say_so(workspace: Workspace) -> None:
    workspace.params["split"]["small_classes"] = "train_only"
    code, _ = run_split(workspace, manifest([0] * 40 + [1]))
    assert code == 0
    assert report().train_only == ("c1",)
    assert report().per_class["c1"] == {"train": 1, "val": 0, "test": 0}


def test_a_class_of_two_large_groups_is_refused_with_the_reason(workspace: Workspace) -> None:
    code, message = run_split(workspace, manifest([0] * 40, groups=["a"] * 20 + ["b"] * 20))
    assert code == 3
    assert (
        "class 'c0' gets 0 images in val, but split.min_per_class is 5: the groups of the class are too large"
        in message
    )


def test_an_accepted_split_is_kept_when_images_are_added_and_the_seed_changes(workspace: Workspace) -> None:
    images = manifest([0, 1] * 50)
    run_split(workspace, images)
    before = placed()
    accept()
    workspace.params["seed"] = 7
    code, message = run_split(workspace, pl.concat([images, manifest([0, 1] * 30, first=500)]))
    assert code == 0
    assert {name: placed()[name] for name in before} == before
    assert report().kept_in_place == 100
    assert report().memory == "ledger of 100 keys"
    assert report().images == {"train": 104, "val": 24, "test": 32}
    assert "memory: ledger of 100 keys" in message
    assert pl.read_parquet(OUT / "ledger.parquet").height == 160


def test_two_runs_without_accepting_give_the_same_bytes(workspace: Workspace) -> None:
    images = manifest([0, 1] * 50)
    run_split(workspace, images)
    accept()
    outputs = []
    for _ in range(2):
        run_split(workspace, pl.concat([images, manifest([0, 1] * 30, first=500)]))
        outputs.append([path.read_bytes() for path in sorted(OUT.iterdir())])
    assert outputs[0] == outputs[1]


def test_an_image_that_ties_placed_groups_together_is_quarantined_and_named(workspace: Workspace) -> None:
    groups = [f"g{number % 20}" for number in range(100)]
    images = manifest([0] * 100, groups=groups)
    run_split(workspace, images)
    accept()
    place_of_group = dict(zip(groups, (placed()[name] for name in images["name"]), strict=True))
    one = next(group for group, place in place_of_group.items() if place == "train")
    other = next(number for number, group in enumerate(groups) if place_of_group[group] == "test")
    tie = manifest([0], contents=[f"{other:06}.png"], groups=[one], first=500)
    code, _ = run_split(workspace, pl.concat([images, tie]))
    assert code == 0
    assert report().quarantined == ("000500.png",)
    assert "000500.png" not in placed()


@pytest.mark.parametrize(
    ("champion", "sentence"),
    [
        ("missing", "ledger.parquet is missing, but SHA256SUMS names it"),
        ("changed", "ledger.parquet is not the file that SHA256SUMS names"),
        ("foreign", "contains none of these"),
    ],
)
def test_a_missing_changed_or_foreign_ledger_is_said_and_not_guessed(
    workspace: Workspace, champion: str, sentence: str
) -> None:
    run_split(workspace, manifest([0] * 50, first=1000))
    accept()
    ledger = Path("data/champion/release/ledger.parquet")
    if champion == "missing":
        ledger.unlink()
    if champion == "changed":
        turned = pl.read_parquet(ledger).with_columns((pl.col("split") + 1) % 3)
        turned.cast({"split": pl.UInt8}).write_parquet(ledger)
    code, message = run_split(workspace, manifest([0] * 50))
    assert code == 2
    assert sentence in message and "git checkout " in message


def test_what_is_said_of_a_foreign_ledger_is_enough_to_begin_anew(workspace: Workspace) -> None:
    run_split(workspace, manifest([0] * 50, first=1000))
    accept()
    message = run_split(workspace, manifest([0] * 50))[1]
    told = re.search(r"write (\{.*?\}) into (\S+)\. Then images may change their split", message)
    assert told, message
    Path(told[2]).write_text(told[1])
    assert run_split(workspace, manifest([0] * 50))[0] == 0
    assert report().memory == "none: no accepted release yet"


def test_a_class_without_training_images_is_refused(workspace: Workspace) -> None:
    workspace.params["split"]["small_classes"] = "train_only"
    splits = ["train"] * 40 + ["val"] * 5 + ["test"] * 5
    code, message = run_split(workspace, manifest([0] * 45 + [1] * 5, splits=splits))
    assert code == 3
    assert "class 'c1' has no image in train" in message


def test_the_report_is_written_where_the_step_refuses_as_where_it_is_done(workspace: Workspace) -> None:
    run_split(workspace, manifest([0] * 40 + [1]))
    assert set(json.loads((OUT / "report.json").read_text())) == set(SplitReport.model_fields)
