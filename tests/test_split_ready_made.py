"""split of images that have splits: these splits stay, and faults that would spoil a test set are refused."""

from pathlib import Path

import pytest

from tests.commands import Workspace
from tests.images.rows import manifest
from tests.split_runs import accept, placed, report, run_split


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Workspace:
    return Workspace(tmp_path, monkeypatch, capsys)


def test_ready_made_splits_are_kept_and_the_missing_one_is_cut_from_train(workspace: Workspace) -> None:
    splits = ["train"] * 80 + ["test"] * 20
    code, message = run_split(workspace, manifest([0] * 100, splits=splits))
    assert code == 0
    assert "split: val: 12 images taken from train, because there is no ready-made val.\n" in message
    assert "test:" not in message
    assert report().ready_made == ("test", "train")
    assert report().images == {"train": 68, "val": 12, "test": 20}
    assert [placed()[f"{number:06}.png"] for number in range(80, 100)] == ["test"] * 20


def test_a_class_without_an_image_in_a_ready_made_test_is_refused_unless_allowed(workspace: Workspace) -> None:
    images = manifest([0] * 50 + [1] * 50, splits=["train"] * 40 + ["test"] * 10 + ["train"] * 50)
    code, message = run_split(workspace, images)
    assert code == 3
    assert (
        "1 class(es) have no image in the ready-made test: 'c1'. split.max_untested_classes allows 0." in message
    )
    workspace.params["split"]["max_untested_classes"] = 1
    assert run_split(workspace, images)[0] == 0
    assert report().untested == ("c1",)


def test_nothing_is_taken_from_train_where_every_split_or_none_was_given(workspace: Workspace) -> None:
    for splits in (["train"] * 80 + ["val"] * 10 + ["test"] * 10, None):
        code, message = run_split(workspace, manifest([0] * 100, splits=splits))
        assert code == 0
        assert "taken from" not in message


def test_copies_within_test_are_said_to_be_counted_once(workspace: Workspace) -> None:
    contents = [str(number) for number in range(90)] + ["0 of test", "1 of test"] * 5
    images = manifest([0] * 100, contents, splits=["train"] * 80 + ["val"] * 10 + ["test"] * 10)
    code, message = run_split(workspace, images)
    assert code == 0
    assert "split: 8 of 10 test images are copies of others; the gate counts each image once.\n" in message
    images = manifest([0] * 100, splits=["train"] * 80 + ["val"] * 10 + ["test"] * 10)
    assert "bytes" not in run_split(workspace, images)[1]


def test_copies_across_ready_made_splits_are_refused_unless_allowed(workspace: Workspace) -> None:
    contents = [str(number) for number in range(100)]
    contents[90] = contents[3]
    images = manifest([0] * 100, contents, splits=["train"] * 80 + ["test"] * 20)
    code, message = run_split(workspace, images)
    assert code == 3
    assert (
        "1 image(s) of val and test have their bytes or their group also in another split: 000090.png." in message
    )
    assert "split.max_leaked allows 0" in message
    workspace.params["split"]["max_leaked"] = 1
    assert run_split(workspace, images)[0] == 0
    assert report().leaked == 1
    accept()  # after a release the split stays the same
    assert run_split(workspace, images)[0] == 0
    assert report().images["test"] == 20


def test_ready_made_splits_may_not_move_what_a_release_has_placed(workspace: Workspace) -> None:
    images = manifest([0] * 100)
    run_split(workspace, images)
    accept()
    turned = {"train": "test", "val": "train", "test": "val"}
    splits = [turned[placed()[name]] for name in images["name"]]
    code, message = run_split(workspace, manifest([0] * 100, splits=splits))
    assert code == 3
    assert "100 image(s) have a ready-made split that differs from their split in the accepted release" in message
