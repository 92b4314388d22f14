"""From a step's function to its command line: `run_step(fuse)` is all that a step file says.

The signature is the contract. `params: FuseParams` is the step's section of params.yaml; `seed`, `class_num`
and `engines` are the shared keys; every other parameter is a flag (a Path or a name). `out` is special: the
function writes into a hidden sibling, which takes its final name only when the function is done or refuses.
"""

import argparse
import contextlib
import ctypes
import fcntl
import inspect
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from steps.errors import BadInput, Refused, StepError
from steps.params import SHARED_KEYS, Params, load_params
from steps.progress import say
from steps.reports.base import Refusal

Publish = Callable[[Path, Path], None]
LOCKS = Path(".foldline/locks")
LOCK_PATIENCE_SECONDS = 10.0  # an orphan of a killed run needs a moment to notice and end
PR_SET_PDEATHSIG = 1


def replace_folder(written: Path, out: Path) -> None:
    """Make `written` the folder `out`; what stood there before is gone."""
    _set_aside(out)
    written.rename(out)


def merge_into_folder(written: Path, out: Path) -> None:
    """Move each file of `written` into the folder `out`, which other runs of the step write too; JSON last."""
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(written.iterdir(), key=lambda path: (path.suffix == ".json", path.name)):
        try:
            file.replace(out / file.name)
        except OSError as fault:
            raise BadInput(f"{out / file.name} cannot be replaced: {fault.strerror}; remove it.") from fault
    written.rmdir()


def run_step(
    step: Callable[..., None], publish: Publish = replace_folder, report: str = "report.json", index: str = ""
) -> None:
    """Run `step` from the command line and exit: 0 done, 1 crashed, 2 wrong flags or params, 3 refused.

    130, as shells have it, where a person pressed Ctrl-C. `report` is the file in `out` that says so when the
    step refuses; "{flag}" in it stands for a flag's value. `index` stands in its place when the step is done,
    for a step that has no report then: a folder with neither was not written by the step, and is left alone.
    """
    try:
        _die_with_parent()
        flags = _parse(step)
        params = load_params(Path(flags.pop("params_file")))
        _leave_alone_what_is_not_ours(flags, report, index)
        _run(step, flags, params, publish, report.format(**flags))
    except StepError as error:
        say(f"{step.__name__}: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say(f"{step.__name__}: interrupted; nothing was half written. Run it again to go on.")
        sys.exit(130)


def _run(step: Callable[..., None], flags: dict[str, Any], params: Params, publish: Publish, report: str) -> None:
    out: Path = flags.pop("out")
    names = [value for value in flags.values() if isinstance(value, str)]
    written = out.with_name("." + ".".join([out.name, *names]) + ".tmp")
    arguments = {**flags, **_from_params(step, params)}
    with _only_writer(written), _temporary(written):
        try:
            step(**arguments, out=written)
        except Refused as refusal:
            said = refusal.report or Refusal()
            said.model_copy(update={"refused": str(refusal)}).write(written / report)
            publish(written, out)
            raise
        publish(written, out)


def _leave_alone_what_is_not_ours(flags: dict[str, Any], report: str, index: str) -> None:
    """Raise BadInput unless `out` is new, empty, or what an earlier run of the step wrote.

    In a folder that runs share, such as evaluate's, the report of any of them will do.
    """
    out: Path = flags["out"]
    if out.name in ("", ".."):
        raise BadInput(f"--out {out} is no folder to replace; name the folder itself, such as data/NAME.")
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out} is a file, which would be replaced; name a folder.")
    written = [report.format(**dict.fromkeys(flags, "*")), *filter(None, [index])]
    half = report.format(**flags).replace(".json", ".*") if "{" in report else ""  # moved there, and then killed
    foreign = [path for path in out.glob("*") if not (half and path.match(half))]
    if foreign and not any(any(out.glob(name)) for name in written):
        raise BadInput(
            f"--out {out} holds files and no {' or '.join(written)}, so this step did not write it and will not "
            "replace it; remove it yourself, or name another folder."
        )


def _parse(step: Callable[..., None]) -> dict[str, Any]:
    """Return the flags that the step's signature asks for, as Paths or names."""
    description = inspect.getdoc(step) or inspect.getdoc(inspect.getmodule(step))
    parser = argparse.ArgumentParser(
        prog=f"python -m steps.{step.__name__}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="dvc.yaml shows this step's usual command line.",
    )
    parser.add_argument("--params", dest="params_file", default="params.yaml", metavar="FILE")
    for name, parameter in _flags(step).items():
        metavar = "PATH" if parameter.annotation is Path else "NAME"
        parser.add_argument(
            f"--{name.replace('_', '-')}", dest=name, type=parameter.annotation, required=True, metavar=metavar
        )
    return vars(parser.parse_args())


def _flags(step: Callable[..., None]) -> dict[str, inspect.Parameter]:
    taken = {"params", *SHARED_KEYS}
    signature = inspect.signature(step, eval_str=True)
    return {name: parameter for name, parameter in signature.parameters.items() if name not in taken}


def _from_params(step: Callable[..., None], params: Params) -> dict[str, Any]:
    wanted = inspect.signature(step).parameters
    values: dict[str, Any] = {key: getattr(params, key) for key in SHARED_KEYS if key in wanted}
    if "params" in wanted:
        values["params"] = params.section(step.__name__)
    return values


@contextlib.contextmanager
def _temporary(written: Path) -> Iterator[None]:
    """Give the step an empty folder to write into, and leave none behind whatever happens."""
    shutil.rmtree(written, ignore_errors=True)
    written.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(written, ignore_errors=True)


@contextlib.contextmanager
def _only_writer(written: Path) -> Iterator[None]:
    """Hold the lock of this output, or raise BadInput when another run keeps it."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    name = str(written).replace(os.sep, "_")
    with (LOCKS / f"{name}.lock").open("w") as lock:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while not _locked(lock.fileno()):
            if time.monotonic() > deadline:
                raise BadInput(f"another run is writing {written.parent}; wait for it to end or stop it.")
            time.sleep(0.2)
        yield


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _set_aside(out: Path) -> None:
    """Rename, then delete: no reader ever sees half of a folder."""
    if out.exists():
        old = out.with_name(f".{out.name}.old.tmp")
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
        shutil.rmtree(old)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent ends: a killed dvc must leave no orphan that writes.

    Not by SIGTERM, which whoever started dvc may have set to be ignored, for all that it starts.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(os.environ.get("STEPS_PARENT", os.getppid())):
            sys.exit(1)  # it ended while this process was importing its packages
