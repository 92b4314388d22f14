"""containers/run and containers/build keep their promises, tested without Docker: a fake records the calls."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from containers.images import ROOT, build_context, image_tag, read_images

STEPS = ("ingest", "validate", "split", "train", "fuse", "export", "build", "evaluate", "gate", "release")
RECORDING_DOCKER = """#!{python}
import json, os, sys
asked = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(asked) + "\\n")
if asked[0] in ("image", "info"):
    sys.stderr.write(os.environ.get("DOCKER_SAYS", ""))
    print("foldline-bootstrap:bookworm" if "Labels" in str(asked) else "--secret")
    sys.exit(1 if "DOCKER_SAYS" in os.environ else 0)
print("--secret")
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A folder with the files that containers/ reads, and a step that reports how it was called."""
    root = tmp_path / "a workspace, here"
    shutil.copytree(ROOT / "containers", root / "containers", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / file, root / file)
    (root / "params.yaml").write_text("ingest: {source: data/raw}\n")
    (root / "steps/images").mkdir(parents=True)
    for file in ("errors.py", "files.py", "yaml_text.py", "images/__init__.py", "images/inside.py"):
        shutil.copy(ROOT / "steps" / file, root / "steps" / file)
    (root / "steps/gate.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps({'flags': sys.argv[1:], 'pid': os.getpid(), 'folder': os.getcwd()}), flush=True)\n"
        "sys.exit(3)\n"
    )
    return root


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A folder for PATH with a fake `docker` that writes each call into calls.jsonl next to it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = str(folder / "calls.jsonl")
    (folder / "docker").write_text(RECORDING_DOCKER.format(python=sys.executable, log=log))
    (folder / "docker").chmod(0o755)
    return folder


def call(
    workspace: Path, *words: str, script: str = "run", **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [str(workspace / "containers" / script), *words]
    environment = {**os.environ, "FOLDLINE_PYTHON": sys.executable, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def calls_of(docker: Path) -> list[list[str]]:
    return [json.loads(line) for line in (docker / "calls.jsonl").read_text().splitlines()]


def test_every_step_has_an_image_and_every_image_a_target_with_just_its_extras() -> None:
    table = read_images()
    assert tuple(table.steps) == STEPS
    assert {*table.steps.values(), *table.tools.values()} <= set(table.images)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for extras in table.images.values() for extra in extras} <= set(known)
    recipe = (ROOT / "containers/Dockerfile").read_text()
    targets = re.findall(r"^FROM \S+ AS (\w+)\n(.*?)(?=^FROM|\Z)", recipe, re.M | re.S)
    installed = {name: re.findall(r"--extra (\w+)", body) for name, body in targets if name != "uv"}
    assert installed == table.images


def test_on_the_host_the_step_replaces_the_script_and_gets_flags_folder_and_exit_code(
    workspace: Path,
) -> None:
    flags = ["--out", "a b", "*", "$HOME", ""]
    environment = {**os.environ, "FOLDLINE_PYTHON": sys.executable}
    command = [str(workspace / "containers/run"), "gate", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd="/") as step:
        message = json.loads(step.communicate(timeout=60)[0])
    assert message == {"flags": flags, "pid": step.pid, "folder": str(workspace)}
    assert step.returncode == 3


def test_a_tool_of_the_table_is_run_as_a_tool(workspace: Path) -> None:
    plant_python(workspace / ".venv", "polars", "pydantic")
    done = call(workspace, "localise", "export", FOLDLINE_PYTHON="")
    assert done.stdout == f"{workspace / '.venv'} -m tools.localise export\n"


def plant_python(environment: Path, *packages: str) -> Path:
    """Write a fake Python that prints its environment and flags, and folders for the packages that it has."""
    for package in packages:
        (environment / "lib/python3.11/site-packages" / package).mkdir(parents=True)
    python = environment / "bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho {shlex.quote(str(environment))} "$@"\n')
    python.chmod(0o755)
    return python


def python_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return the environment whose Python ran the step."""
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.partition(" -m steps.gate")[0]


def call_from(parent: Path, first_word: str, workspace: Path) -> subprocess.CompletedProcess[str]:
    """Start a step from a process whose program is `parent`, as DVC does: through a shell that runs `exec`."""
    command = f"exec {shlex.quote(str(workspace / 'containers/run'))} gate"
    script = f"import subprocess, sys; sys.exit(subprocess.call(['/bin/sh', '-c', {command!r}]))"
    environment = {name: value for name, value in os.environ.items() if name != "FOLDLINE_PYTHON"}
    environment |= {"PATH": f"{parent.parent}:{os.environ['PATH']}", "PYTHONHOME": sys.base_prefix}
    return subprocess.run(
        [first_word, "-c", script],
        executable=parent,
        capture_output=True,
        text=True,
        env=environment,
        cwd=parent.parent.parent,
        timeout=60,
    )


def plant_parent(environment: Path, *packages: str) -> Path:
    """Link a Python into an environment, as `python -m venv` does."""
    python = plant_python(environment, *packages)
    python.unlink()
    python.symlink_to(Path(sys.executable).resolve())
    return python


@pytest.mark.parametrize("packages", [("pydantic",), ("polars",), ("polars", "pydantic")])
@pytest.mark.parametrize("variable", ["CONDA_PREFIX", "VIRTUAL_ENV"])
def test_the_environment_of_the_workspace_is_used_whatever_is_active(
    workspace: Path, tmp_path: Path, variable: str, packages: tuple[str, ...]
) -> None:
    plant_python(workspace / ".venv", "polars", "pydantic")
    plant_python(tmp_path / "active", *packages)
    path = f"{tmp_path}/active/bin:{os.environ['PATH']}"
    done = call(workspace, "gate", FOLDLINE_PYTHON="", PATH=path, **{variable: str(tmp_path / "active")})
    assert python_of(done) == str(workspace / ".venv")


def test_a_python_that_a_person_names_comes_first(workspace: Path, tmp_path: Path) -> None:
    plant_python(workspace / ".venv", "polars", "pydantic")
    named = plant_python(tmp_path / "named")
    assert python_of(call(workspace, "gate", FOLDLINE_PYTHON=str(named))) == str(tmp_path / "named")


@pytest.mark.parametrize("copies", ["tmpx", "standalone/tmpx"])
def test_a_copy_for_an_experiment_uses_the_environment_of_the_project(
    workspace: Path, tmp_path: Path, copies: str
) -> None:
    plant_python(workspace / ".venv", "polars", "pydantic")
    copy = workspace / ".dvc/tmp/exps" / copies
    shutil.copytree(workspace / "containers", copy / "containers")
    assert python_of(call(copy, "gate", FOLDLINE_PYTHON="")) == str(workspace / ".venv")


@pytest.mark.parametrize("first_word", ["{python}", "python", "bin/python"])
def test_without_an_environment_in_the_workspace_the_python_of_dvc_is_used(
    workspace: Path, tmp_path: Path, first_word: str
) -> None:
    plant_python(workspace / ".venv", "pydantic")  # an environment without polars is not used
    parent = plant_parent(tmp_path / "of dvc", "polars", "pydantic")
    (workspace / "steps/gate.py").write_text("import sys\nprint(sys.orig_argv[0])\n")
    done = call_from(parent, first_word.format(python=parent), workspace)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).samefile(parent) and done.stdout.startswith(str(tmp_path / "of dvc"))


@pytest.mark.parametrize("packages", [(), ("pydantic",), ("polars",)])
def test_where_no_python_has_the_packages_a_sentence_says_what_to_do(
    workspace: Path, tmp_path: Path, packages: tuple[str, ...]
) -> None:
    plant_python(workspace / ".venv", *packages)
    parent = plant_parent(tmp_path / "of dvc", *packages)
    done = call_from(parent, str(parent), workspace)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("containers/run: no Python here has polars and pydantic")
    assert "make setup" in done.stderr and "FOLDLINE_PYTHON" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "environment", "sentence"),
    [
        ((), {}, "name a step"),
        (("trian",), {}, "Did you mean 'train'?"),
        (("../gate",), {}, "there is no step '../gate'"),
        (("@",), {}, "there is no step '@'"),
        (("gate",), {"STEPS_ON": "dokcer"}, "it is host or docker"),
        (
            ("gate",),
            {"STEPS_ON": "docker", "DOCKER_SAYS": "Error: No such image: x"},
            "run `containers/build base`",
        ),
        (
            ("gate",),
            {"STEPS_ON": "docker", "DOCKER_SAYS": "Cannot connect to the Docker daemon"},
            "does not answer",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line_with_exit_code_2(
    workspace: Path, docker: Path, words: tuple[str, ...], environment: dict[str, str], sentence: str
) -> None:
    done = call(workspace, *words, PATH=f"{docker}:{os.environ['PATH']}", **environment)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_machine_without_docker_is_told_so(workspace: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("bash", "dirname"):
        (bare / name).symlink_to(shutil.which(name) or name)
    done = call(workspace, "gate", STEPS_ON="docker", PATH=str(bare))
    assert done.returncode == 2
    assert "there is no `docker` on this machine" in done.stderr


def test_a_container_gets_the_workspace_at_its_own_path_and_nothing_else_of_the_machine(
    workspace: Path, docker: Path
) -> None:
    path = f"{docker}:{os.environ['PATH']}"
    done = call(workspace, "gate", "--out", "a b", STEPS_ON="docker", PATH=path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    (asked, command) = calls_of(docker)
    tag = image_tag(build_context(workspace))
    assert asked[:2] == ["image", "inspect"]
    assert asked[-1] == f"foldline-base:{tag}"
    line = " ".join(command)
    assert line.startswith("run --init --rm --interactive --pull never --network none --shm-size 8g")
    assert f"--user {os.getuid()}:{os.getgid()}" in line
    assert "--env OMP_NUM_THREADS" in line
    assert "STEPS_PARENT" not in line
    assert "--gpus" not in line
    assert f'--mount type=bind,"source={workspace}","target={workspace}" --workdir {workspace}' in line
    assert line.count("--mount") == 1
    assert command[-6:] == ["gate", "python", "-m", "steps.gate", "--out", "a b"]


def test_another_lock_asks_for_another_image_and_another_linter_setting_does_not(workspace: Path) -> None:
    before = image_tag(build_context(workspace))
    with (workspace / "pyproject.toml").open("a") as project:
        project.write("\n[tool.other]\nx = 1\n")
    assert image_tag(build_context(workspace)) == before
    with (workspace / "requirements.lock").open("a") as lock:
        lock.write("# other\n")
    assert image_tag(build_context(workspace)) != before


def test_build_lends_settings_as_secrets_and_leaves_alone_what_is_built(workspace: Path, docker: Path) -> None:
    hidden = "https://user:password@index.example/simple"
    environment = {"PATH": f"{docker}:{os.environ['PATH']}", "UV_INDEX_URL": hidden}
    base = ("--base", "debian-3.11", "data")
    done = call(workspace, *base, script="build", **environment)
    assert done.returncode == 0, done.stderr
    (built,) = [words for words in calls_of(docker) if words[0] == "build" and "--help" not in words]
    assert built[:3] == ["build", "--network", "host"]
    assert "BASE=debian-3.11" in built
    assert hidden not in (docker / "calls.jsonl").read_text() + done.stdout
    assert any(word.startswith("id=settings,src=") for word in built)
    (docker / "calls.jsonl").unlink()
    done = call(workspace, "data", script="build", **environment)
    assert f"foldline-data:{image_tag(build_context(workspace))} is there" in done.stdout
    assert not [words for words in calls_of(docker) if words[0] == "build" and "--help" not in words]


@pytest.mark.parametrize("words", [("engines",), ("--base",), ("--base", "x", "--bootstrap-base")])
def test_build_refuses_what_it_does_not_know(workspace: Path, words: tuple[str, ...]) -> None:
    done = call(workspace, *words, script="build")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


def test_build_says_how_it_is_used(workspace: Path) -> None:
    done = call(workspace, "--help", script="build")
    assert done.returncode == 0
    assert "--bootstrap-base" in done.stdout
