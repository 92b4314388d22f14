"""Write the code that each stage depends on into dvc.yaml: `make deps`, after an import has changed.

A stage depends on what its step imports, so that a changed helper reruns what it changes and nothing else. A room
is listed whole where the step reaches nearly all of it, and module by module elsewhere. The files beside the steps
(cli.py, errors.py, files.py, progress.py, cores.py, yaml_text.py) serve every step and change no output, so no
stage lists them.
`--check` writes nothing, and exits with 1 where dvc.yaml is stale.
"""

import argparse
import re
import sys
from pathlib import Path

import grimp

from steps.errors import BadInput
from steps.files import write_whole
from steps.progress import say

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = ROOT / "dvc.yaml"
SHIPPED = {"release": ["consumers", "LICENSE"]}  # copied, not imported
WHOLE_ROOM = 0.9  # of a room's lines that a step must reach, for the room to be listed as a folder
WIDTH = 115
STAGE = re.compile(
    r"(?P<head>^ +cmd:(?:(?!\n  \w).)*?containers/run (?P<step>\w+).*?# code, by `make deps`\n)"
    r"(?P<code>.*?)(?P<tail>^ +\]\n)",
    re.M | re.S,
)


def modules_of(step: str, graph: grimp.ImportGraph) -> set[str]:
    """Return the modules in rooms that the step imports, at any depth, and the step itself."""
    found, ahead = {f"steps.{step}"}, [f"steps.{step}"]
    while ahead:
        imported = graph.find_modules_directly_imported_by(ahead.pop())
        new = {module for module in imported if _is_in_a_room(module)} - found
        found |= new
        ahead += new
    return found


def _is_in_a_room(module: str) -> bool:
    return module.count(".") > 1


def import_graph() -> grimp.ImportGraph:
    """Return who imports whom in `steps`. Imports for the type checker count: so a runner names its backends."""
    return grimp.build_graph("steps", exclude_type_checking_imports=False, cache_dir=None)


def code_of(step: str, graph: grimp.ImportGraph) -> list[str]:
    """Return the paths that a stage of this step lists: the step, then rooms and modules by name."""
    files = {file_of(module) for module in modules_of(step, graph)}
    rooms = {file.parent for file in files if file.parent != ROOT / "steps"}
    listed: set[Path] = set()
    for room in rooms:
        inside = {file for file in files if file.parent == room}
        whole = sum(map(lines_in, inside)) >= WHOLE_ROOM * sum(map(lines_in, room.glob("*.py")))
        folders = [folder for folder in room.iterdir() if (folder / "__init__.py").is_file()]
        listed |= {room} if whole and not folders else {file for file in inside if lines_in(file)}
    names = sorted(path.relative_to(ROOT).as_posix() for path in listed)
    return [f"steps/{step}.py", *names, *SHIPPED.get(step, [])]


def file_of(module: str) -> Path:
    """Return the file that a module is read from."""
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def lines_in(file: Path) -> int:
    """Return how many lines the file has."""
    return file.read_text().count("\n")


def with_code(pipeline: str) -> str:
    """Return the text of dvc.yaml with the code of each stage as it is now; raise BadInput for a stage without."""
    graph = import_graph()
    written, count = STAGE.subn(
        lambda stage: stage["head"] + _wrapped(code_of(stage["step"], graph)) + stage["tail"], pipeline
    )
    if count != pipeline.count("cmd:"):
        raise BadInput("dvc.yaml: a stage has no line '# code, by `make deps`' in its deps; add one.")
    return written


def _wrapped(paths: list[str], indent: str = " " * 6) -> str:
    """Return the paths as lines of a YAML list, filled up to WIDTH."""
    lines = [indent]
    for path in paths:
        if len(lines[-1]) + len(path) + 2 > WIDTH:
            lines.append(indent)
        lines[-1] += f"{path}, "
    return "".join(line.rstrip() + "\n" for line in lines)


def main() -> int:
    """Write dvc.yaml, or check it; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.deps", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where dvc.yaml is stale")
    check: bool = parser.parse_args().check
    now = PIPELINE.read_text()
    try:
        wanted = with_code(now)
    except BadInput as fault:
        say(f"deps: {fault}")
        return fault.exit_code
    if wanted == now:
        say("deps: dvc.yaml lists the code that each stage imports")
        return 0
    if check:
        say("deps: an import has changed since dvc.yaml was written; run `make deps`.")
        return 1
    write_whole(PIPELINE, wanted.encode())
    say("deps: dvc.yaml is written; the stages whose code changed will run again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
