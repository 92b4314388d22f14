"""Run one step in its image: `python -m containers.on_docker IMAGE MODULE --flags`, called by containers/run.

This process becomes `docker run`, so it passes on signals and the step's exit code. The container also ends when
its caller ends: the parent-death signal kills the docker client. Then the container's standard input closes, and
GUARD ends the step. (SIGTERM instead of SIGKILL would let the client end cleanly, but a SIGTERM is lost while the
container starts.)
"""

import csv
import io
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from containers.images import ROOT, build_context, image_tag
from steps.errors import BadInput
from steps.files import end_with_parent
from steps.images.inside import dvc_caches
from steps.yaml_text import read_yaml

# Folders of samples from Debian packages; the descriptors of these samples do not contain the folder.
PLACES_OF_SAMPLES = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
# The number of threads decides the order of sums, so a container must have the same number as the host.
FORWARDED = {
    "CUBLAS_WORKSPACE_CONFIG",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "NO_COLOR",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "TQDM_DISABLE",
}
# `wait` returns early after a trapped signal, so it is called in a loop. A shell's background jobs ignore INT, so
# GUARD sends TERM instead.
GUARD = """
exec 3<&0 </dev/null
trap 'kill -TERM "${step:-$!}" || exit 143' TERM INT HUP
"$@" 3<&- & step=$!
{ cat <&3 >/dev/null; kill -KILL "$step"; } 2>/dev/null &
wait "$step"; code=$?
while kill -0 "$step" 2>/dev/null; do wait "$step"; code=$?; done
exit "$code"
"""


def main(image: str, module: str, flags: list[str]) -> NoReturn:
    """Replace this process by the container; exit 2 with the reason if the image cannot run here."""
    end_with_parent(int(os.environ.get("STEPS_PARENT", os.getppid())))
    reference = f"foldline-{image}:{image_tag(build_context())}"
    fault = _why_not(reference, image)
    if fault:
        print(f"{module.rpartition('.')[2]}: {fault}", file=sys.stderr)
        sys.exit(2)
    command = docker_run(reference, module, flags, ROOT, os.environ)
    _hold_own_standard_input()
    os.execvp(command[0], command)


def docker_run(
    reference: str, module: str, flags: Iterable[str], root: Path, environment: Mapping[str, str]
) -> list[str]:
    """Return the command: the workspace at its host path, the caller's ids, no network, a read-only root."""
    step = module.rpartition(".")[2]
    forwarded = sorted(name for name in environment if name in FORWARDED or name.startswith("FOLDLINE_"))
    return [
        *("docker", "run", "--init", "--rm", "--interactive", "--pull", "never", "--network", "none"),
        *("--shm-size", environment.get("STEPS_SHM_SIZE", "8g")),
        *(("--gpus", environment["STEPS_GPUS"]) if environment.get("STEPS_GPUS") else ()),
        *("--user", f"{os.getuid()}:{os.getgid()}", "--security-opt", "no-new-privileges"),
        *("--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777", "--env", "HOME=/tmp"),
        *(word for name in forwarded for word in ("--env", name)),
        *("--mount", _bind(root), "--workdir", str(root)),
        *(word for path in outside_paths(root, flags) for word in ("--mount", _bind(path, "readonly"))),
        *("--label", f"foldline.step={step}", "--label", f"foldline.workspace={root}"),
        *(reference, "sh", "-c", GUARD, step, "python", "-m", module, *flags),
    ]


def outside_paths(root: Path, flags: Iterable[str]) -> list[Path]:
    """Return the existing folders and files outside `root` that a step may read.

    These are the paths in params.yaml and in a source's descriptor, a DVC cache outside `root` (its files may be
    linked into the workspace), and the targets of those paths that are symbolic links.
    """
    params = _read_yaml(root / _params_file(list(flags)))
    named = [*_paths_in_params(root, params), *dvc_caches(root)]
    found = {path for path in (*named, *map(Path.resolve, named)) if path.exists()}
    outside = {path for path in found if not path.is_relative_to(root) and not root.is_relative_to(path)}
    return sorted(path for path in outside if not any(other in path.parents for other in outside))


def _paths_in_params(root: Path, params: Mapping[str, Any]) -> Iterator[Path]:
    ingest, train = _mapping(params.get("ingest")), _mapping(params.get("train"))
    source = ingest.get("source")
    lists = _mapping(ingest.get("lists")).values()
    values = [source, ingest.get("label_names"), *lists, train.get("weights")]
    for value in filter(None, values):
        yield Path(os.path.normpath(root / str(value)))
    if source and str(source).endswith((".yaml", ".yml")):
        descriptor = _read_yaml(root / str(source))
        yield from (Path(str(value)) for value in descriptor.values() if str(value).startswith("/"))
        yield from (place for name, place in PLACES_OF_SAMPLES.items() if descriptor.get("sample") == name)
    elif source and (root / str(source)).is_file():
        yield Path(os.path.normpath((root / str(source)).parent))  # the images of a list or table lie beside it


def _params_file(flags: list[str]) -> str:
    return flags[flags.index("--params") + 1] if "--params" in flags[:-1] else "params.yaml"


def _read_yaml(file: Path) -> dict[str, Any]:
    """Return the file's mapping, or {} for an unreadable file; the step itself will report the fault."""
    try:
        return _mapping(read_yaml(file))
    except (OSError, BadInput):
        return {}


def _mapping(content: object) -> dict[str, Any]:
    return content if isinstance(content, dict) else {}


def _bind(path: Path, *options: str) -> str:
    """Return the value of --mount, which docker reads as one line of csv."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(["type=bind", f"source={path}", f"target={path}", *options])
    return line.getvalue()


def _why_not(reference: str, image: str) -> str | None:
    """Return the reason why the image cannot run here, or None."""
    try:
        asked = subprocess.run(
            ["docker", "image", "inspect", "--format", "{{.Id}}", reference], capture_output=True, text=True
        )
    except FileNotFoundError:
        return "STEPS_ON=docker, but there is no `docker` on this machine; install Docker, or unset STEPS_ON."
    if asked.returncode == 0:
        return None
    if "no such image" in asked.stderr.lower():
        return f"there is no image {reference} (of this requirements.lock); run `containers/build {image}`."
    reason = " ".join(asked.stderr.split()).removeprefix("Error response from daemon: ")
    return f"STEPS_ON=docker, but Docker does not answer ({reason}); start Docker, or unset STEPS_ON."


def _hold_own_standard_input() -> None:
    """Make standard input a pipe that only this process holds open, so that the pipe closes with the process."""
    reading, writing = os.pipe()
    os.dup2(reading, 0)
    os.set_inheritable(writing, True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
