"""The import graph keeps the rules of the layout: who may import whom, and which change reruns which stage."""

import ast
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from importlinter.cli import lint_imports

from tools import deps

ROOT = Path(__file__).parent.parent
STEPS = ["ingest", "validate", "split", "train", "fuse", "export", "build", "evaluate", "gate", "release"]
IMPORTERS = {
    "openvino": {"steps.backends.openvino"},
    "great_expectations": {"steps.validate"},
    # The quantizer is part of the runtime's package; every backend uses the int8 graph that the quantizer writes.
    "onnxruntime": {"steps.backends.onnxruntime", "steps.building.int8"},
    # A machine has one, both or none of these packages, so code imports them only by their name in BACKENDS.
    "tensorrt": set(),
    "tensorrt_rtx": set(),
}
BY_THE_NAME_IN_BACKENDS = {
    "steps.backends.tensorrt",
    "steps.backends.runner",
}  # the second checks for the package


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(
        "steps",
        "flows",
        "tools",
        include_external_packages=True,
        exclude_type_checking_imports=False,
        cache_dir=None,
    )


def test_the_import_contracts_hold() -> None:
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_no_two_modules_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    for module in graph.modules:
        if module.startswith(("steps", "flows", "tools")) and module not in ("steps", "flows", "tools"):
            imported = graph.find_modules_directly_imported_by(module)
            circles = [other for other in imported if graph.chain_exists(importer=other, imported=module)]
            assert not circles, f"{module} imports {circles}, which import it in turn"


@pytest.mark.parametrize(("package", "importers"), IMPORTERS.items())
def test_a_heavy_package_has_the_importers_that_are_named_here(package: str, importers: set[str]) -> None:
    found = {module for module, tree in sources().items() if package in names_imported(tree)}
    assert found == importers


def test_a_package_of_backends_is_imported_by_name_in_its_own_module() -> None:
    found = {module for module, tree in sources().items() if any(map(is_package_of_table, ast.walk(tree)))}
    assert found == BY_THE_NAME_IN_BACKENDS


@pytest.mark.parametrize("step", STEPS)
def test_what_a_step_imports_is_in_its_image(graph: grimp.ImportGraph, step: str) -> None:
    by_pydantic = {"pydantic_core"}
    images = yaml.safe_load((ROOT / "containers/images.yaml").read_text())
    extras = images["images"][images["steps"][step]]
    reached = {name for name in graph.find_upstream_modules(f"steps.{step}") if "." not in name}
    third_party = reached - {"steps"} - set(sys.stdlib_module_names) - by_pydantic
    missing = {name for name in third_party if not _distributions(name) & _requirements(extras)}
    assert not missing, f"the image of {step} has the extras {extras}, which bring no {sorted(missing)}"


@pytest.mark.parametrize("step", ["gate", "release"])
def test_what_only_judges_reaches_no_runtime(graph: grimp.ImportGraph, step: str) -> None:
    reached = graph.find_upstream_modules(f"steps.{step}")
    assert not {"torch", "onnx", "onnxruntime", "openvino", "tensorrt"} & reached
    assert not {module for module in reached if module.startswith(("steps.backends", "steps.models"))}


def test_dvc_yaml_lists_the_code_that_each_stage_imports() -> None:
    text = deps.PIPELINE.read_text()
    assert deps.with_code(text) == text, "run `make deps`"


@pytest.mark.parametrize("step", STEPS)
def test_at_most_a_tenth_of_the_lines_that_a_stage_lists_are_out_of_its_reach(step: str) -> None:
    imports = deps.import_graph()
    reached = {deps.file_of(module) for module in deps.modules_of(step, imports)}
    paths = [ROOT / path for path in deps.code_of(step, imports) if path not in deps.SHIPPED.get(step, [])]
    listed = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    lines, beyond = (sum(map(deps.lines_in, files)) for files in (listed, listed - reached))
    print(f"{step}: {lines} lines listed, {beyond} out of reach")
    assert beyond <= 0.1 * lines


def test_a_room_says_what_it_knows_and_stays_small() -> None:
    for room in (path.parent for path in (ROOT / "steps").glob("*/__init__.py")):
        assert ast.get_docstring(ast.parse((room / "__init__.py").read_text())), room.name
        assert len(list(room.glob("*.py"))) <= 22, f"{room.name} holds more than one idea"


@cache
def sources() -> dict[str, ast.Module]:
    """Return the source of each module."""
    files = [file for package in ("steps", "flows", "tools") for file in (ROOT / package).rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): ast.parse(file.read_text()) for file in files}


def names_imported(tree: ast.Module) -> set[str]:
    """Return the packages that the source imports, at module level or in a function, by a statement or a call."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif is_import_call(node):
            names |= {str(text.value) for text in ast.walk(node) if isinstance(text, ast.Constant)}
    return {name.split(".")[0] for name in names}


def is_import_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__")


def is_package_of_table(node: ast.AST) -> bool:
    return is_import_call(node) and ast.unparse(node).endswith(".package)")


def _distributions(package: str) -> set[str]:
    return {_normal(name) for name in _installed().get(package, [package])}


@cache
def _installed() -> dict[str, list[str]]:
    """Return the distributions that provide each package, cached: reading all distributions takes 0.3 s."""
    return dict(packages_distributions())


def _requirements(extras: list[str]) -> set[str]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    return {_normal(re.split(r"[<>=!;\[ ]", line)[0]) for line in lines}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
