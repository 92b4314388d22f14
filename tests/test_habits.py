"""The files for contributors are correct: they name files, make targets and versions that exist."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from steps.release import LICENSE
from tools import deps

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
CI = (ROOT / ".ci/run").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TARGETS = set(re.findall(r"^([a-z-]+):(?!=)", MAKEFILE, re.M))
PROSE = re.sub(r"^```.*?^```$", "", CONTRIBUTING, flags=re.M | re.S)
SPANS = re.findall(r"`([^`\n]+)`", PROSE)
TOP = {path.name for path in ROOT.iterdir()}
PATHS = sorted({span for span in SPANS if span.partition("/")[0] in TOP and "NAME" not in span})
LAYERS = set(re.findall(r"steps/[a-z]+(?:\.py|/)", CONTRIBUTING.split("## The layers")[1].split("```")[1]))
ADDITIONS = (
    "a loss",
    "a sampler",
    "an optimizer",
    "a schedule",
    "an augmentation",
    "a block",
    "an architecture",
    "a check on the data",
    "an engine backend",
    "a gate criterion",
    "a section of",
    "a tool",
    "a step",
    "a benchmark's bound",
    "the shared-memory size of containers",
)


def targets_called_in(text: str) -> list[str]:
    return re.findall(r"\bmake ([a-z-]+)\b", text)


# --- the licence and the version of Python


def test_the_licence_is_apache_and_a_release_depends_on_it() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n" in text and "Version 2.0, January 2004" in text and "END OF TERMS" in text
    assert PROJECT["license"] == "Apache-2.0"
    assert LICENSE.resolve() == ROOT / "LICENSE"
    assert "LICENSE" in deps.SHIPPED["release"]


def test_there_is_one_version_of_python() -> None:
    version = (ROOT / ".python-version").read_text().strip()
    assert PROJECT["requires-python"] == f"=={version}.*"
    assert f"PYTHON ?= python{version}\n" in MAKEFILE
    assert devcontainer()["image"].startswith(f"python:{version}")


# --- one script for people and CI


def test_ci_has_three_jobs_and_each_calls_a_make_target_or_the_script() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    assert list(workflow["jobs"]) == ["lint", "tests", "slow"]
    for job in workflow["jobs"].values():
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert commands
        assert all(command == ".ci/run" or targets_called_in(command)[0] in TARGETS for command in commands)


def test_the_script_runs_every_test_by_make() -> None:
    assert CI.rstrip().endswith("export FOLDLINE_TESTS=all\nmake test")
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


def test_a_hook_calls_a_make_target_and_nothing_comes_from_a_network() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert targets_called_in(hook["entry"])[0] in TARGETS


def test_the_devcontainer_is_set_up_by_make() -> None:
    assert targets_called_in(devcontainer()["postCreateCommand"])[0] in TARGETS
    assert "--shm-size=8g" in devcontainer()["runArgs"]


def devcontainer() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    return content


def test_every_part_of_lint_is_a_target() -> None:
    parts = re.findall(r"^LINTS := (.*)$", MAKEFILE, re.M)[0].split()
    assert {"lint-format", "lint-style", "lint-types", "lint-contracts", "lint-deps"} == set(parts) <= TARGETS


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_a_form_for_issues_asks_for_what_it_names(form: str) -> None:
    content = yaml.safe_load((ROOT / f".github/ISSUE_TEMPLATE/{form}.yaml").read_text())
    assert {"name", "description", "body"} <= set(content)
    identities = [field["id"] for field in content["body"]]
    assert len(set(identities)) == len(identities)
    assert all(field["attributes"]["label"] for field in content["body"])


# --- CONTRIBUTING.md and CHANGELOG.md


def test_there_are_paths_to_check() -> None:
    assert len(PATHS) > 40 and len(LAYERS) > 20


@pytest.mark.parametrize("path", PATHS)
def test_a_path_in_contributing_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("table", "path"), re.findall(r"`([A-Z_]{4,})`[^|;`]* in `(steps/[\w/]+\.py)`", PROSE))
def test_a_table_in_contributing_is_in_the_file_beside_it(table: str, path: str) -> None:
    assert re.search(rf"^ *{table}\b.*=", (ROOT / path).read_text(), re.M)


@pytest.mark.parametrize("target", sorted({target for span in SPANS for target in targets_called_in(span)}))
def test_a_make_target_in_contributing_exists(target: str) -> None:
    assert target in TARGETS


@pytest.mark.parametrize("addition", ADDITIONS)
def test_contributing_says_where_to_add(addition: str) -> None:
    assert re.search(rf"^\| {re.escape(addition)}\b[^|]*\| .*`", CONTRIBUTING, re.M)


def test_the_layers_in_contributing_are_those_of_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    shown = CONTRIBUTING.split("## The layers")[1].split("```")[1].splitlines()[2:]
    for layer, line in zip(layers[1:], shown[1:], strict=True):  # the first layer lists the steps
        assert set(re.split(r" \| ", layer)) == set(re.split(r", ", line.split("  ")[0]))


def test_the_rule_for_words_has_a_dozen_pairs() -> None:
    table = CONTRIBUTING.split("| before | after |\n|---|---|\n")[1].split("\n\n")[0]
    assert len(table.splitlines()) >= 12


def test_a_test_named_in_contributing_exists() -> None:
    names = [span for span in SPANS if span.startswith("test_")]
    sources = "\n".join(file.read_text() for file in (ROOT / "tests").glob("test_*.py"))
    assert names and all(f"def {name}(" in sources for name in names)


def test_the_changelog_has_the_version_and_only_known_headings() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, re.M)
    assert versions[0] == ("Unreleased", "")
    assert versions[1][0] == PROJECT["version"] and all(date for _, date in versions[1:])
    known = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= known
