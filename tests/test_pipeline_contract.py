"""One name everywhere: a step's name is its module, stage, section, folder, image entry and test."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from steps.cli import replace_folder
from steps.params import SHARED_KEYS, Params, load_params

ROOT = Path(__file__).parent.parent
DVC: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, Any] = {name: stage.get("do", stage) for name, stage in DVC["stages"].items()}
NO_STEPS = {"__init__", "cli", "errors", "progress"}
STEPS = sorted(path.stem for path in (ROOT / "steps").glob("*.py") if path.stem not in NO_STEPS)
WITHOUT_PARAMS = {"evaluate"}  # everything that it needs stands in the model's card


def step_of(stage: str) -> str:
    command: str = STAGES[stage]["cmd"]
    return command.split("containers/run ")[1].split()[0]


def signature_of(step: str) -> inspect.Signature:
    return inspect.signature(getattr(importlib.import_module(f"steps.{step}"), step), eval_str=True)


def test_every_stage_runs_a_step_and_every_step_has_a_stage() -> None:
    assert {step_of(stage) for stage in STAGES} == set(STEPS)
    assert {stage.split("-")[0] for stage in STAGES} == set(STEPS)


def test_every_step_has_a_section_of_params_or_needs_none() -> None:
    sections = {field.alias or name for name, field in Params.model_fields.items()} - set(SHARED_KEYS)
    assert sections == set(STEPS) - WITHOUT_PARAMS


def test_every_step_has_an_image() -> None:
    assert set(yaml.safe_load((ROOT / "containers/images.yaml").read_text())["steps"]) == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_has_a_test_of_its_own(step: str) -> None:
    assert (ROOT / f"tests/test_{step}.py").is_file()


@pytest.mark.parametrize("step", STEPS)
def test_a_step_file_is_a_docstring_and_one_public_function(step: str) -> None:
    module = importlib.import_module(f"steps.{step}")
    public = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    assert public == [step]
    assert module.__doc__
    assert (ROOT / f"steps/{step}.py").read_text().rstrip().splitlines()[-1].strip().startswith("run_step(")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_params_that_its_step_takes(stage: str) -> None:
    taken = set(signature_of(step_of(stage)).parameters)
    wanted = taken & set(SHARED_KEYS) | ({step_of(stage)} if "params" in taken else set())
    assert set(STAGES[stage].get("params", [])) == wanted


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_gives_each_flag_that_its_step_takes(stage: str) -> None:
    step = step_of(stage)
    given = set(re.findall(r"--([\w-]+)", STAGES[stage]["cmd"]))
    assert given == set(signature_of(step).parameters) - set(SHARED_KEYS) - {"params"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_what_its_flags_name_and_writes_its_own_folder(stage: str) -> None:
    definition = STAGES[stage]
    flags = dict(re.findall(r"--([\w-]+) (\S+)", definition["cmd"]))
    for flag, path in flags.items():
        if flag != "out" and "/" in path:
            assert any(dep == path or dep.startswith(path + "/") for dep in definition["deps"]), flag
    outs = definition.get("outs", []) + definition.get("metrics", [])
    assert all(out == flags["out"] or out.startswith(flags["out"] + "/") for out in outs)
    assert flags["out"].split("/")[1] == step_of(stage)


def test_the_folder_of_weights_is_watched_and_there_even_where_no_weights_are() -> None:
    assert "data/weights" in STAGES["train"]["deps"]  # `${train.weights}` would end a run in which it is null
    assert (ROOT / "data/weights/.gitignore").is_file()


def test_no_output_is_kept_from_one_run_to_the_next() -> None:
    assert "persist" not in (ROOT / "dvc.yaml").read_text()


def test_params_yaml_is_complete_and_typed() -> None:
    load_params(ROOT / "params.yaml")


def test_only_evaluate_shares_its_folder() -> None:
    sharing = [step for step in STEPS if "publish=" in (ROOT / f"steps/{step}.py").read_text()]
    assert sharing == ["evaluate"]
    assert replace_folder.__doc__
