"""README, CONTRIBUTING and docs/ match the project: map and tree are equal; commands, keys and links exist.

A slow test here runs each fenced `sh` block. A block that no test runs is marked in its first line:
```sh title="not run by a test". The commands of those blocks and of sentences are only parsed.
"""

import contextlib
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from steps.params import Params
from tests.clone import environment, fresh_clone

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
AT_THE_TOP = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in [*AT_THE_TOP, *DOCS.rglob("*.md")]}
README = PAGES["README.md"]
TRAINING, EXTEND = PAGES["docs/training.md"], PAGES["docs/extend.md"]
WHOLE = "\n".join(PAGES.values())

FENCE = re.compile(r"^ *```(.*)\n((?:.*\n)*?) *```$", re.M)
BLOCKS = [(page, info, body) for page, text in PAGES.items() for info, body in FENCE.findall(text)]
NOT_RUN = 'sh title="not run by a test"'
INFOS = {"sh", NOT_RUN, "text", "python", "yaml"}
COMMAND = r"(?:[A-Z_]+=\S+ )*(?:make |\.venv/bin/|containers/\w+ -|python -m |dvc \w)"
SPANS = sorted({span for text in PAGES.values() for span in re.findall(r"`([^`\n]+)`", FENCE.sub("", text))})
FOLDERS = r"(?:\.ci|benchmarks|consumers|containers|data|docs|flows|steps|tests|tools)"
THE_USERS = ("data/raw", "data/weights/model.safetensors")  # made by users who have images or weights
OUTS = re.findall(r"--out (data/\w+)", (ROOT / "dvc.yaml").read_text())


def commands_in(body: str) -> list[str]:
    """Return the commands of a block, without comments."""
    lines = (line.partition(" #")[0].strip() for line in body.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


RUN = [command for _, info, body in BLOCKS if info == "sh" for command in commands_in(body)]
PARSED = sorted({
    *(command for _, info, body in BLOCKS if info.startswith("sh") for command in commands_in(body)),
    *(span for span in SPANS if re.match(COMMAND, span)),
})  # fmt: skip


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize("page", PAGES)
def test_the_lines_of_a_page_fit_a_screen(page: str) -> None:
    lines = [line for line in FENCE.sub("", PAGES[page]).splitlines() if not line.lstrip().startswith("|")]
    assert not [line for line in lines if len(line) > 115 and not line.startswith("- [")]


# --- the map


def _map() -> set[str]:
    """Return the paths that the map names: whole lines of files, then the first column, also below `steps/`."""
    lines = README.split("## The map")[1].split("```")[1].strip().splitlines()[1:]
    paths, folder = set[str](), ""
    for line in lines:
        first, *others = line.split()
        if not folder and not first.endswith("/"):
            paths |= {first, *others}
            continue
        folder = folder if line.startswith(" ") else first
        paths.add(f"{folder}{first}" if line.startswith(" ") else first)
    return paths


def test_the_map_names_only_what_is_there() -> None:
    assert not sorted(path for path in _map() if not (ROOT / path).exists())


def test_the_map_names_every_room_every_file_beside_the_steps_and_every_folder_at_the_top() -> None:
    top = {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    rooms = {f"steps/{path.name}/" for path in (ROOT / "steps").iterdir() if (path / "__init__.py").is_file()}
    steps = {f"steps/{step}.py" for step in yaml.safe_load((ROOT / "containers/images.yaml").read_text())["steps"]}
    beside = {f"steps/{path.name}" for path in (ROOT / "steps").glob("[a-z]*.py")} - steps
    assert top | rooms | beside <= _map()


# --- names


@pytest.mark.parametrize("name", sorted(set(re.findall(r"classify/(\w+)", WHOLE))))
def test_a_deployment_exists(name: str) -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert name in [deployment["name"] for deployment in deployments]


@pytest.mark.parametrize("module", sorted(set(re.findall(r"\b((?:tools|benchmarks|flows)\.[a-z_]+)\b", WHOLE))))
def test_a_module_that_people_run_exists(module: str) -> None:
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


PATHS = {match[1] for span in SPANS if (match := re.match(rf"({FOLDERS}/[\w./-]+)(?=$| )", span))}
FILES = {span for span in SPANS if re.fullmatch(r"[\w-]+\.(?:yaml|yml|toml|lock)", span)}


@pytest.mark.parametrize("path", sorted(path for path in PATHS | FILES if "NAME" not in path))
def test_a_path_exists_or_is_an_output_of_a_stage(path: str) -> None:
    assert (ROOT / path).exists() or any(path.startswith(out) for out in (*OUTS, *THE_USERS))


KEY = r"`((?:ingest|validate|split|train|fuse|export|build|gate|release)\.[a-z_][\w.]*)"
KEYS = set(re.findall(KEY, WHOLE)) - {f"{step}.py" for step in ("train", "split")}


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a field may hold."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
    for inner in typing.get_args(kind):
        yield from _models(inner)


@pytest.mark.parametrize("key", sorted(key.rstrip(".") for key in KEYS))
def test_a_key_of_params_is_known(key: str) -> None:
    section, *names = key.split(".")
    models: list[type[BaseModel]] = [Params]
    for name in ("validate_" if section == "validate" else section, *names):
        fields = [model.model_fields[name] for model in models if name in model.model_fields]
        assert fields, key
        models = [model for field in fields for model in _models(field.annotation)]


# --- the table "to add ... touch ..."


def _rows() -> Iterator[tuple[str, str]]:
    for line in EXTEND.splitlines():
        if line.startswith("| ") and "`" in line:
            addition, touched, *_ = (cell.strip() for cell in line.strip("| ").split(" | "))
            yield addition, touched


@pytest.mark.parametrize(("addition", "touched"), list(_rows()))
def test_each_name_to_touch_is_in_one_of_the_files_beside_it(addition: str, touched: str) -> None:
    spans = re.findall(r"`([^`]+)`", touched)
    paths = [ROOT / span for span in spans if "/" in span and (ROOT / span).exists()]
    files = [file for path in paths for file in (path.glob("*.py") if path.is_dir() else [path])]
    text = "\n".join(file.read_text() for file in files)
    names = [span for span in spans if re.fullmatch(r"-*[A-Za-z_][\w-]*", span) and not (ROOT / span).exists()]
    assert not [name for name in names if files and name not in text]


WANTED = (
    "a loss", "a sampler", "an optimizer", "an augmentation", "a block", "an architecture", "an engine backend",
    "a check on the data", "a gate criterion", "a section of", "a tool", "a step", "the bound of a benchmark",
    "the default shared memory of containers",
)  # fmt: skip


@pytest.mark.parametrize("addition", WANTED)
def test_extend_answers_what_people_ask(addition: str) -> None:
    assert any(row.startswith(addition) for row, _ in _rows())


# --- commands


def test_a_block_is_of_a_known_kind() -> None:
    assert not [(page, info) for page, info, _ in BLOCKS if info not in INFOS]


@pytest.mark.parametrize("command", PARSED)
def test_a_command_exists_with_its_flags(command: str) -> None:
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    program, *arguments = words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert not [target for target in arguments if not re.search(rf"^{target}:", makefile, re.M)]
    elif program.endswith("python"):
        assert arguments[0] == "-m"
        _check_module(arguments[1], arguments[2:])
    elif program.endswith("dvc"):
        _check_dvc(arguments)
    elif program.endswith("prefect"):
        assert arguments[:2] == ["deployment", "run"] and set(_flags(arguments)) <= {"--watch"}
    elif program.startswith("containers/"):
        assert not [flag for flag in _flags(arguments) if flag not in (ROOT / program).read_text()]
    else:
        assert program == "git"


def _flags(arguments: list[str]) -> list[str]:
    return [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]


def _check_module(name: str, arguments: list[str]) -> None:
    flags = _flags(arguments)
    assert not [flag for flag in flags if flag not in _help(name)]


@cache
def _help(name: str) -> str:
    """Return the output of `python -m NAME --help`, run in this process so that torch is imported once."""
    module = importlib.import_module(name)
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit, match=r"^0$"):
            module.main()
    return printed.getvalue()


def _check_dvc(arguments: list[str]) -> None:
    from dvc.cli.parser import get_main_parser

    get_main_parser().parse_args([argument.replace("...", "place") for argument in arguments])


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = fresh_clone(tmp_path_factory.mktemp("clone") / "here")
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_a_command_of_a_block_runs(clone: Path, command: str) -> None:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=clone,
        env=os.environ | environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_network_of_ones_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from steps.models.architectures import create

    (tmp_path / "networks").mkdir()
    (tmp_path / "networks/my_nets.py").write_text(TRAINING.split("```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    assert "train.arch: networks.my_nets:small" in TRAINING
    assert create("networks.my_nets:small", 7, 32)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


# --- links and the site


@pytest.mark.parametrize("page", PAGES)
def test_a_link_leads_to_a_file(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)", FENCE.sub("", PAGES[page]))
    local = [target for target in targets if "://" not in target]
    assert not [target for target in local if not ((ROOT / page).parent / target).exists()]


def test_every_decision_is_listed_and_has_its_three_parts() -> None:
    listed = PAGES["docs/decisions/index.md"]
    for path in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        text = path.read_text()
        assert f"({path.name})" in listed
        assert text.splitlines()[0].removeprefix("# ") in listed
        assert re.findall(r"^## (.*)", text, re.M) == ["Context", "Decision", "Consequence"], path.name


def test_the_site_builds_strictly_and_loads_nothing_from_a_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment() | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) >= len(PAGES) - len(AT_THE_TOP)
    for page in pages:
        loading = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*>", page.read_text())
        assert not [tag for tag in loading if re.search(r"(?:src|href)=[\"']?(?:https?:)?//", tag)], page.name
        assert "mermaid" not in page.read_text()  # a script from the network draws its plots
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text()), style.name
