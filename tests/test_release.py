"""release: the judged model ships complete and sealed, and works without this repository."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from steps.errors import BadInput, Refused
from steps.reports.artifact import artifact_checksum, write_card
from steps.reports.base import read_refusal
from steps.reports.card import Card
from steps.reports.release import check_sums
from steps.reports.verdict import Verdict, card_checksum
from tests.backends.tiny import NAMES, onnx_model, run_step_in, weights, write_exported
from tests.judged import ENGINES, LENIENT, RELEASE, WITHHELD, released
from tests.reference_params import reference_params

LICENSE = Path(__file__).parent.parent / "LICENSE"


@pytest.fixture
def line(judged_line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "line"
    shutil.copytree(judged_line, root)
    monkeypatch.chdir(root)
    return root


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
            "LICENSE",
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
    assert Path("data/release/LICENSE").read_bytes() == LICENSE.read_bytes()
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
@pytest.mark.parametrize(
    ("form", "folder"), [("export", "data/export/model"), (ENGINES[0], f"data/build/{ENGINES[0]}")]
)
def test_no_model_ships_without_its_files_though_its_card_was_judged(
    form: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card.read(Path(folder) / "card.json")
    files = {name: checksum for name, checksum in card.files.items() if name != "model.onnx"}
    less = card.model_copy(update={"files": files, "artifact": artifact_checksum(files)})
    less.write(Path(folder) / "card.json")
    verdict = Verdict.read(Path("data/gate/verdict.json"))
    forms = [
        one.model_copy(update={"card": card_checksum(less)}) if one.form == form else one for one in verdict.forms
    ]
    changed = verdict.model_copy(update={"forms": tuple(forms)})
    changed.write(Path("data/gate/verdict.json"))
    monkeypatch.setattr("steps.release.judge", lambda *_: changed)
    with pytest.raises(Refused, match=rf"^{form}: {folder} has a card that lists no model\.onnx"):
        released()


def _pass_the_withheld(verdict: Verdict) -> Verdict:
    forms = [form.model_copy(update={"judgement": "pass", "why": ""}) for form in verdict.forms]
    return verdict.model_copy(update={"forms": tuple(forms)})


def _drop_a_required_form(verdict: Verdict) -> Verdict:
    return verdict.model_copy(update={"forms": tuple(form for form in verdict.forms if form.form != "fuse")})


def _list_an_engine_twice(verdict: Verdict) -> Verdict:
    return verdict.model_copy(update={"forms": (*verdict.forms, verdict.forms[3])})


def _name_a_form_outside(verdict: Verdict) -> Verdict:
    outside = verdict.forms[3].model_copy(update={"form": "../../outside/onnxruntime-fp32"})
    return verdict.model_copy(update={"forms": (*verdict.forms, outside)})


def _negative_size(verdict: Verdict) -> Verdict:
    forms = [form.model_copy(update={"size_bytes": -5}) for form in verdict.forms]
    return verdict.model_copy(update={"forms": tuple(forms)})


EDITS = (_pass_the_withheld, _drop_a_required_form, _list_an_engine_twice, _name_a_form_outside, _negative_size)


@pytest.mark.parametrize("edit", EDITS)
def test_a_verdict_that_the_gates_rule_does_not_give_does_not_ship(
    line: Path, edit: Callable[[Verdict], Verdict]
) -> None:
    verdict = Verdict.read(Path("data/gate/verdict.json"))
    edit(verdict).write(Path("data/gate/verdict.json"))
    with pytest.raises(Refused, match="is not the verdict that the gate's rule gives"):
        released()
    assert not list(line.parent.rglob("outside"))


@pytest.mark.usefixtures("line")
def test_scores_that_were_changed_after_the_gate_do_not_ship() -> None:
    for path in Path("data/evaluate").glob(f"{ENGINES[0]}*"):
        path.unlink()
    with pytest.raises(Refused, match=f"the verdict of the form '{ENGINES[0]}'"):
        released()


@pytest.mark.usefixtures("line")
def test_a_missing_ledger_is_named() -> None:
    Path("ledger.parquet").unlink()
    with pytest.raises(BadInput, match=r"ledger\.parquet is not there"):
        released()


def test_the_command_line_writes_the_release_or_refuses_with_exit_3(line: Path) -> None:
    flags = {**RELEASE, "out": "data/release", "params": "own.yaml"}
    params = reference_params() | {"engines": list(ENGINES), "gate": LENIENT.model_dump(mode="json")}
    (line / "own.yaml").write_text(yaml.safe_dump(params))
    done = run_step_in(line, "release", flags)
    assert done.returncode == 0, done.stderr
    check_sums(line / "data/release")
    _one_bit(line / "data/export/model")
    refused = run_step_in(line, "release", flags)
    assert refused.returncode == 3
    assert refused.stderr.startswith("release: export: the model on disk")
    assert read_refusal(line / "data/release/report.json") is not None
    assert not (line / "data/release/predict.py").exists()
