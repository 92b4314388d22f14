"""The README tells the truth: its map is the tree, and what it tells people to type is there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml

from steps.params import Params
from steps.params.base import Section

ROOT = Path(__file__).parent.parent
THE_USERS = ("data/raw",)  # made by whoever has images
README = (ROOT / "README.md").read_text()
MADE_BY_RUNS = {".venv", ".foldline"}


def _map() -> set[str]:
    """Return the paths that the map names: entries of the first column, those below `steps/` indented."""
    block = README.split("## The map")[1].split("```")[1]
    first, *lines = block.strip().splitlines()
    paths, above = set(first.split()), ""
    for line in lines:
        name = line.split()[0]
        if line.startswith(" "):
            paths.add(f"{above}{name}")
        else:
            above = name
            paths.add(name)
    return paths


def test_the_map_names_only_what_is_there() -> None:
    missing = sorted(path for path in _map() if not (ROOT / path).exists())
    assert not missing


def test_the_map_names_every_room_and_every_folder_at_the_top() -> None:
    top = {f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    rooms = {f"steps/{path.name}/" for path in (ROOT / "steps").iterdir() if (path / "__init__.py").is_file()}
    assert top | rooms <= _map()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z]+)", README))))
def test_a_make_target_that_it_names_is_there(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"(?:deployment run|`) ?classify/(\w+)", README))))
def test_a_deployment_that_it_names_is_there(name: str) -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert name in [deployment["name"] for deployment in deployments]


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m ([a-z_.]+)(?![\w.])", README))))
def test_a_module_that_it_tells_people_to_run_is_there(module: str) -> None:
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize(
    "key", sorted(set(re.findall(r"`((?:ingest|validate|split|train|gate|build)\.[\w.]+)", README)))
)
def test_a_key_of_params_that_it_names_is_known(key: str) -> None:
    section, *names = key.rstrip(".").split(".")
    model = Params.model_fields["validate_" if section == "validate" else section].annotation
    for name in names:
        assert model is not None and name in model.model_fields, key
        inner = model.model_fields[name].annotation
        model = inner if hasattr(inner, "model_fields") else None


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"`((?:steps|flows|tools|tests|data|containers|benchmarks)/[\w./-]+)`", README)))
)
def test_a_file_that_it_names_is_there_or_is_an_output_of_a_stage(path: str) -> None:
    outs = re.findall(r"--out (data/\w+)", (ROOT / "dvc.yaml").read_text())
    assert (ROOT / path).exists() or any(path.startswith(out) for out in (*outs, *THE_USERS))


# --- the params, key by key

REQUIRED = "required"
SECTION = README.split("## The params, key by key")[1].split("\n## ")[0]
ROWS = {
    key: (default, allowed)
    for key, default, allowed in re.findall(r"^\| `(\S+)` \| (.+?) \| (.+?) \|", SECTION, re.M)
}


def _inner(kind: Any) -> type[Section] | None:
    """Return the section that a field holds, perhaps as one of several kinds, or None for a plain value."""
    kinds = (kind, *get_args(kind))
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, Section)), None)


def _keys(model: type[Section], above: str = "", given: Section | None = None) -> Iterator[tuple[str, Any, Any]]:
    """Yield (key, default or REQUIRED, kind) of each value below `model`, whose own default is `given`."""
    for name, field in model.model_fields.items():
        key, inner = f"{above}{field.alias or name}", _inner(field.annotation)
        default = REQUIRED if field.is_required() else field.get_default(call_default_factory=True)
        default = getattr(given, name) if given is not None else default
        if inner is None:
            yield key, default, field.annotation
        else:
            yield from _keys(inner, f"{key}.", default if isinstance(default, Section) else None)


def _words(kind: Any) -> set[str]:
    """Return the words that a kind allows, null among them."""
    if kind is type(None):
        return {"null"}
    return set(get_args(kind)) if get_origin(kind) is Literal else set().union(*map(_words, get_args(kind)))


KEYS = {key: (default, kind) for key, default, kind in _keys(Params)}


def test_the_params_section_has_every_key_and_no_other() -> None:
    assert sorted(ROWS) == sorted(KEYS)
    assert len(re.findall(r"^\| `", SECTION, re.M)) == len(ROWS), "a key stands there twice"


@pytest.mark.parametrize("key", KEYS)
def test_the_default_that_it_shows_is_that_of_the_code(key: str) -> None:
    default, shown = KEYS[key][0], ROWS[key][0]
    if default == REQUIRED:
        assert shown == REQUIRED
    else:
        assert yaml.safe_load(shown.strip("`")) == json.loads(json.dumps(default))


@pytest.mark.parametrize("key", [key for key, (_, kind) in KEYS.items() if _words(kind)])
def test_the_words_that_it_allows_are_those_of_the_code(key: str) -> None:
    shown = set(re.findall(r"`(\w+)`", ROWS[key][1]))
    assert _words(KEYS[key][1]) <= shown


def test_the_architecture_of_ones_own_that_it_shows_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from steps.models.architectures import create

    (tmp_path / "my_nets.py").write_text(SECTION.split("```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    assert "train.arch: my_nets:small" in SECTION
    assert create("my_nets:small", 7, 32)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
