"""A user's own folder of images goes through the whole line with `dvc repro`, in a fresh clone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from steps.errors import Refused
from steps.evaluate import evaluate
from steps.gate import gate
from steps.models.architectures import create
from steps.models.files import load_model
from steps.params import load_params
from steps.params.gate import GateParams
from steps.reparam.fold import fold
from steps.reports.verdict import Verdict
from tests.backends.tiny import swap_channels
from tests.clone import dvc, set_params
from tests.finished import Line

ENGINES = ("onnxruntime-fp32", "openvino-fp32")


@pytest.fixture(scope="module")
def clone(finished_line: Line, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a line that ran once on three classes of coloured discs."""
    return finished_line.copy(tmp_path_factory.mktemp("clone") / "line").folder


def test_the_verdict_is_a_pass_and_every_form_agrees(clone: Path) -> None:
    verdict = Verdict.read(clone / "data/gate/verdict.json")
    assert verdict.judgement == "pass"
    assert {form.form for form in verdict.forms} == {"train", "fuse", "export", "champion", *ENGINES}
    judged = [form for form in verdict.forms if form.form != "champion"]
    assert all(form.agreement == 1.0 for form in judged)
    assert all(form.top1 is not None and form.top1 >= 0.9 for form in judged)


def test_a_second_run_runs_nothing(clone: Path) -> None:
    before = (clone / "dvc.lock").read_bytes()
    done = dvc(clone, "repro")
    assert "Running stage" not in done.stdout and (clone / "dvc.lock").read_bytes() == before


def test_the_figures_are_there_for_dvc(clone: Path) -> None:
    shown = dvc(clone, "metrics", "show")
    assert shown.returncode == 0 and "data/evaluate/export.metrics.json" in shown.stdout.replace(os.sep, "/")
    plotted = dvc(clone, "plots", "show", "--out", "plots")
    assert plotted.returncode == 0 and (clone / "plots/index.html").is_file()


def test_the_release_classifies_an_image_without_this_project(clone: Path, tmp_path: Path) -> None:
    release = shutil.copytree(clone / "data/release", tmp_path / "release")
    image = clone / "data/raw/green/000.jpg"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "predict.py", str(image)], cwd=release, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "green" in done.stdout


def test_channels_swapped_in_one_forms_preprocessing_are_refused(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clone)
    evidence = shutil.copytree("data/evaluate", tmp_path / "evaluate")
    (tmp_path / "swapped").mkdir()
    with monkeypatch.context() as planted:
        swap_channels(planted)
        evaluate(
            "export", Path("data/export/model"), Path("data/ingest"), Path("data/split"), tmp_path / "swapped"
        )
    shutil.copytree(tmp_path / "swapped", evidence, dirs_exist_ok=True)
    (tmp_path / "gate").mkdir()
    terms = load_params(Path("params.yaml")).section("gate")
    assert isinstance(terms, GateParams)
    with pytest.raises(Refused, match=r"^export: \w+ .*\(gate\.\w+\)"):
        gate(terms, ENGINES, evidence, tmp_path / "gate")


@pytest.mark.slow
def test_a_finished_model_goes_through_the_line_and_is_released_and_its_file_is_watched(
    clone: Path, tmp_path: Path
) -> None:
    line = shutil.copytree(clone, tmp_path / "line", symlinks=True)
    trained, _ = load_model(line / "data/train/model")
    finished = line / "data/weights/finished.pt"
    torch.save(fold(trained).state_dict(), finished)
    set_params(line, train={"epochs": 0, "weights": "data/weights/finished.pt"})
    done = dvc(line, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    before = Verdict.read(clone / "data/gate/verdict.json")
    after = Verdict.read(line / "data/gate/verdict.json")
    assert after.judgement == "pass"
    assert [form.top1 for form in after.forms] == [form.top1 for form in before.forms]
    assert (line / "data/release/predict.py").is_file()
    untrained = create("repvgg_nano", 3, 32)
    torch.save(untrained.state_dict(), finished)
    assert "data/weights" in dvc(line, "status").stdout
