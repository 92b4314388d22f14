"""Where a user's own network may lie: in `networks/`, which DVC watches, or in a package of requirements.lock.

DVC does not notice an edit in any other place, and an edited network would keep the old model. Every function here
takes the working directory as the folder of the project.
"""

import hashlib
import re
import sys
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from steps.errors import BadInput
from steps.models.architectures import LIBRARY, OWN_NAME, own_callable

FOLDER = "networks"
LOCK = "requirements.lock"
# The folders of the project's own code: a network is copied out of them, because the folder itself cannot move.
CODE = ("benchmarks", "consumers", "containers", "flows", "steps", "tests", "tools")


def refuse_elsewhere(arch: str) -> None:
    """Raise BadInput for a `package.module:callable` outside `networks/` and outside the pinned packages.

    The message says how to move the network. Modules that a network in `networks/` imports must be there too.
    """
    module, _, name = arch.rpartition(":")
    if module in ("", "timm", "torchvision") or not OWN_NAME.fullmatch(arch):
        return
    top = module.partition(".")[0]
    if top != FOLDER:
        _refuse_unless_pinned(arch, module, name)
        return
    imported_before = set(sys.modules)
    own_callable(arch)
    _refuse_unwatched_imports(arch, set(sys.modules) - imported_before)


def package_names(modules: set[str]) -> set[str]:
    """Return the names, as requirements.lock writes them, of the installed packages of these top-level modules."""
    installed = packages_distributions()
    return {_normal(package) for module in modules for package in installed.get(module, ())}


def networks_digest() -> str:
    """Return 16 hex digits that change with every file of `networks/`."""
    digest = hashlib.sha256()
    for path in sorted(Path(FOLDER).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.as_posix()}:{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def _refuse_unless_pinned(arch: str, module: str, name: str) -> None:
    top = module.partition(".")[0]
    place = None if top == "__main__" else _place(find_spec(top))
    file = f"{module.replace('.', '/')}.py"
    if place is None:
        moved = f"set train.arch: {FOLDER}.{module}:{name}"
        hint = f"{FOLDER}/{file} is there: {moved}" if Path(FOLDER, file).is_file() else _where()
        raise BadInput(f"train.arch: {arch}: {top} cannot be imported from the project's folder. {hint}.")
    if not LIBRARY.search(str(place)):
        raise BadInput(
            f"train.arch: {arch} lies in {_shown(place)}, and DVC does not watch that place: an edited network "
            f"would keep the old model. {_how_to_move(module, name, place)}"
        )
    packages = package_names({top})
    if not packages & _pinned():
        package = f"the package {min(packages)}" if packages else f"{top}, which is part of Python,"
        raise BadInput(
            f"train.arch: {arch}: {package} is not in {LOCK}, so another machine may have another version. Add "
            f"the package to pyproject.toml and run `make lock`, or copy the network to {FOLDER}/. {_where()}."
        )


def _refuse_unwatched_imports(arch: str, modules: set[str]) -> None:
    """Raise BadInput where importing the network imported a module that neither DVC nor the lock holds."""
    for name in sorted(modules):
        path, top = Path(getattr(sys.modules[name], "__file__", None) or ""), name.partition(".")[0]
        is_watched = top == "steps" or path.is_relative_to(Path.cwd() / FOLDER)
        if path.is_absolute() and not is_watched and not LIBRARY.search(str(path)):
            raise BadInput(
                f"train.arch: {arch} imports {name} ({_shown(path)}), and DVC does not watch that file. Move the "
                f"file to {FOLDER}/ too, and import it as {FOLDER}.{name if top not in CODE else path.stem}."
            )


def _how_to_move(module: str, name: str, place: Path) -> str:
    """Return the command that moves the network, and the new `train.arch`."""
    top = module.partition(".")[0]
    if place.is_relative_to(Path.cwd()) and top not in CODE:
        command, new = f"git mv {place.relative_to(Path.cwd())} {FOLDER}/", module
        note = " (`mv` where git does not track it)"
    else:
        source = place.parent / f"{module.replace('.', '/')}.py"
        command, new, note = f"cp {_shown(source)} {FOLDER}/", module.rpartition(".")[2], ""
    return f"Move it: `mkdir -p {FOLDER} && {command}`{note}, and set train.arch: {FOLDER}.{new}:{name}."


def _where() -> str:
    return f"Your own networks lie in {FOLDER}/: {FOLDER}/my_nets.py is named {FOLDER}.my_nets:CALLABLE"


def _place(spec: ModuleSpec | None) -> Path | None:
    """Return the folder of a package or the file of a module; None where there is none."""
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    # A module that is built into Python has no file; its place is that of the standard library.
    return Path(folders[0] if folders else spec.origin if spec.has_location and spec.origin else re.__file__)


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _pinned() -> set[str]:
    """Return the names of the packages that requirements.lock pins."""
    lock = Path(LOCK)
    text = lock.read_text() if lock.is_file() else ""
    return {_normal(name) for name in re.findall(r"^([\w.-]+)==", text, re.M)}


def _normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
