"""One name everywhere: a step's name is its module, stage, section, folder, image entry and test."""

import ast
import importlib
import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from steps.cli import run_step, section_of
from steps.params import SHARED_KEYS, Params, load_params
from tests.reference_params import REFERENCE

ROOT = Path(__file__).parent.parent
DVC: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, Any] = {name: stage.get("do", stage) for name, stage in DVC["stages"].items()}
NO_STEPS = {"__init__", "cli", "cores", "errors", "files", "progress", "yaml_text"}
STEPS = sorted(path.stem for path in (ROOT / "steps").glob("*.py") if path.stem not in NO_STEPS)
WITHOUT_PARAMS = {"evaluate"}  # the model's card has all its settings


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
    wanted = taken & set(SHARED_KEYS) | {section_of(step_of(stage), name) for name in taken} - {None}
    assert set(STAGES[stage].get("params", [])) == wanted


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_gives_each_flag_that_its_step_takes(stage: str) -> None:
    step = step_of(stage)
    given = set(re.findall(r"--([\w-]+)", STAGES[stage]["cmd"]))
    taken = set(signature_of(step).parameters) - set(SHARED_KEYS)
    assert given == {name for name in taken if section_of(step, name) is None}


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
    assert "data/weights" in STAGES["train"]["deps"]  # `${train.weights}` would fail if it is null
    assert (ROOT / "data/weights/.gitignore").is_file()


def test_the_folder_of_own_networks_is_watched_where_the_pytorch_network_is_made_and_nowhere_else() -> None:
    from dvc.repo import Repo

    with Repo(str(ROOT)) as repo:
        watching = {
            stage.addressing for stage in repo.index.stages if "networks" in [dep.def_path for dep in stage.deps]
        }
    assert watching == {"train", "fuse", "evaluate@train", "evaluate@fuse"}
    assert (ROOT / "networks/README.md").is_file()


def test_no_output_is_kept_from_one_run_to_the_next() -> None:
    assert "persist" not in (ROOT / "dvc.yaml").read_text()


def test_no_param_has_a_name_that_dvcs_run_cache_is_blind_to() -> None:
    from dvc_data.hashfile.meta import Meta

    assert not {Meta.PARAM_SIZE, Meta.PARAM_NFILES} & set(_names(Params.model_json_schema(by_alias=True)))


def _names(schema: Any) -> Iterator[str]:
    """Yield the name of every property at any depth."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _names(inner)


@pytest.mark.parametrize("params", [ROOT / "params.yaml", REFERENCE], ids=["project", "reference"])
def test_params_yaml_is_complete_and_typed(params: Path) -> None:
    load_params(params)


@pytest.mark.parametrize("target", ["run", "server", "worker", "deploy"])
def test_make_brings_back_the_folder_of_prefects_database(tmp_path: Path, target: str) -> None:
    for name in (".venv/.synced", "requirements.lock", "containers/uv.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    command = ["make", "-n", "-f", str(ROOT / "Makefile"), target]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "mkdir -p .foldline" in done.stdout.split("prefect")[0].split("flows.")[0]


@pytest.mark.parametrize("step", STEPS)
def test_only_evaluate_shares_its_folder(step: str) -> None:
    tree = ast.parse((ROOT / f"steps/{step}.py").read_text())
    publish = publisher(calls_of(tree, "run_step")[0])
    own = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == publish]
    if own:  # the step does more than replace the folder
        assert calls_of(own[0], "replace_folder") and not calls_of(own[0], "merge_into_folder")
    else:
        assert publish == ("merge_into_folder" if step == "evaluate" else "replace")


def calls_of(tree: ast.AST, name: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


def publisher(call: ast.Call) -> str:
    """Return the name of the function given as `publish` to `run_step(step, publish)`, or of its default."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    publish = call.args[1] if len(call.args) > 1 else given.get("publish")
    default: str = inspect.signature(run_step).parameters["publish"].default.__name__
    return ast.unparse(publish) if publish else default
