"""accept: the whole release becomes the champion, or the old champion stays."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steps.errors import BadInput
from steps.reports.champion import Champion
from steps.reports.release import INDEX, ReleaseCard, checksums, write_sums
from steps.reports.verdict import Verdict
from tests.backends.tiny import seal
from tests.released import seal_release
from tools.accept import accept


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release", "first")


@pytest.fixture
def champion(tmp_path: Path) -> Path:
    Champion(accepted=False).write(tmp_path / "champion/champion.json")
    (tmp_path / "champion/kept.txt").write_text("not ours")
    return tmp_path / "champion"


def write_release(folder: Path, model: str) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "model/model.onnx").write_text(model)
    (folder / "ledger.parquet").write_text("ledger")
    seal(folder / "model")
    seal_release(folder, ())
    return folder


def held(champion: Path) -> tuple[bool, str | None]:
    model = champion / "release/model/model.onnx"
    return Champion.read(champion / "champion.json").accepted, model.read_text() if model.is_file() else None


def test_a_release_becomes_the_champion(release: Path, champion: Path) -> None:
    accept(release, champion)
    assert held(champion) == (True, "first")
    assert sorted(path.name for path in champion.iterdir()) == ["champion.json", "kept.txt", "release"]


def test_the_next_release_takes_its_place(release: Path, champion: Path, tmp_path: Path) -> None:
    accept(release, champion)
    accept(write_release(tmp_path / "second", "second"), champion)
    assert held(champion) == (True, "second")


def test_a_release_that_a_refused_run_left_behind_is_not_accepted(release: Path, champion: Path) -> None:
    judged = release.parent / "gate/verdict.json"
    Verdict(judgement="inconclusive", refused="fuse: too few images").write(judged)
    with pytest.raises(
        BadInput, match="is of an earlier run; the gate's last verdict is INCONCLUSIVE: fuse: too few"
    ):
        accept(release, champion)
    assert held(champion) == (False, None)
    judged.write_bytes((release / "verdict.json").read_bytes())
    accept(release, champion)
    assert held(champion) == (True, "first")


def _changed(release: Path) -> None:
    (release / "model/model.onnx").write_text("other")


def _added(release: Path) -> None:
    (release / "extra").write_text("other")


def _removed(release: Path) -> None:
    (release / "ledger.parquet").unlink()


def _failed(release: Path) -> None:
    verdict = Verdict.read(release / "verdict.json").model_copy(update={"judgement": "inconclusive"})
    verdict.write(release / "verdict.json")
    _list_and_seal(release)


def _sealed_anew(release: Path) -> None:
    _changed(release)
    seal(release / "model")
    write_sums(release)


def _listed_anew(release: Path) -> None:
    _changed(release)
    seal(release / "model")
    _list_and_seal(release)


def _under_the_old_card(release: Path) -> None:
    _changed(release)
    _list_and_seal(release)


def _changed_and_listed(name: str) -> Callable[[Path], None]:
    def change(release: Path) -> None:
        (release / name).write_bytes((release / name).read_bytes()[::-1])
        _list_and_seal(release)

    return change


def _list_and_seal(release: Path) -> None:
    files = {path: checksum for path, checksum in checksums(release).items() if path != INDEX}
    ReleaseCard.read(release / INDEX).model_copy(update={"files": files}).write(release / INDEX)
    write_sums(release)


def _refused(release: Path) -> None:
    (release / "report.json").write_text(json.dumps({"refused": "there is no passing verdict"}))


def _gone(release: Path) -> None:
    shutil.rmtree(release)


FAULTS = {
    "is not the file": _changed, "added later": _added, "is missing": _removed,
    "no passing verdict": _failed, "holds a refusal": _refused, "is no release": _gone,
    r"card\.json is not what release\.json says: the release was changed and sealed again": _sealed_anew,
    r"card\.json is not the card that passed as export in verdict\.json": _listed_anew,
    r"model\.onnx is not what model/card\.json says": _under_the_old_card,
    r"labels\.txt is not what model/card\.json says": _changed_and_listed("labels.txt"),
    r"preprocessing\.txt is not what model/card\.json says": _changed_and_listed("preprocessing.txt"),
}  # fmt: skip


@pytest.mark.parametrize("words", FAULTS)
def test_what_is_no_sealed_and_passed_release_changes_nothing(
    release: Path, champion: Path, tmp_path: Path, words: str
) -> None:
    accept(write_release(tmp_path / "old", "old"), champion)
    FAULTS[words](release)
    with pytest.raises(BadInput, match=words):
        accept(release, champion)
    assert held(champion) == (True, "old")


def test_a_folder_that_is_no_release_is_not_replaced(release: Path, champion: Path) -> None:
    thesis = champion / "release/thesis.doc"
    thesis.parent.mkdir()
    thesis.write_text("mine")
    with pytest.raises(BadInput, match=r"release was not written by this tool .* name another --champion\."):
        accept(release, champion)
    assert thesis.read_text() == "mine"
    thesis.unlink()
    accept(release, champion)
    assert held(champion) == (True, "first")


def test_an_interrupted_copy_leaves_the_old_champion(
    release: Path, champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(write_release(tmp_path / "old", "old"), champion)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(OSError, match="No space"):
        accept(release, champion)
    assert held(champion) == (True, "old")
    assert not list(champion.glob(".*"))


def test_the_command_says_what_it_did_or_why_not(release: Path, champion: Path) -> None:
    command = [sys.executable, "-m", "tools.accept", "--release", str(release), "--champion", str(champion)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "is now the champion" in done.stderr
    _changed(release)
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and refused.stderr.startswith("accept: ")
    assert held(champion) == (True, "first")


def test_a_champion_that_cannot_be_written_is_one_sentence(release: Path, champion: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tools.accept",
        "--release",
        str(release),
        "--champion",
        f"{champion}/kept.txt",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("accept: ") and "Not a directory" in done.stderr
