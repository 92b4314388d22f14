"""The README tells the truth: its map is the tree, and what it tells people to type is there."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
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
    from steps.params import Params

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
    assert (ROOT / path).exists() or any(path.startswith(out) for out in outs)
