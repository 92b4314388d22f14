"""From a step's function to its command line: `run_step(fuse)` is all that a step file says.

The signature is the contract. `params: FuseParams` is the step's section of params.yaml; `seed`, `class_num`
and `engines` are the shared keys; every other parameter is a flag (a Path or a name). `out` is special: the
function writes into a hidden sibling, which takes its final name only when the function is done or refuses.
"""

import argparse
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steps.errors import BadInput, Refused, StepError
from steps.files import end_with_parent, only_writer, replace_folder, temporary_folder
from steps.params import SHARED_KEYS, Params, load_params
from steps.progress import say
from steps.reports.base import Refusal

PARENT = "STEPS_PARENT"  # the process that a step ends with, as containers/run and containers/on_docker name it
Publish = Callable[[Path, Path, str], None]  # (what the step wrote, --out, the name of its report)


def replace(written: Path, out: Path, _report: str) -> None:
    """Make what the step wrote the folder `out`."""
    replace_folder(written, out)


def run_step(
    step: Callable[..., None], publish: Publish = replace, report: str = "report.json", index: str = ""
) -> None:
    """Run `step` from the command line and exit: 0 done, 1 crashed, 2 wrong flags or params, 3 refused.

    130, as shells have it, where a person pressed Ctrl-C. `report` is the file in `out` that says so when the
    step refuses; "{flag}" in it stands for a flag's value. `index` stands in its place when the step is done,
    for a step that has no report then: a folder with neither was not written by the step, and is left alone.
    """
    try:
        end_with_parent(int(os.environ.get(PARENT, os.getppid())))
        flags = _parse(step)
        params = load_params(Path(flags.pop("params_file")))
        _refuse_a_folder_of_others(flags, report, index)
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
    with only_writer(written), temporary_folder(written):
        try:
            step(**arguments, out=written)
        except Refused as refusal:
            (refusal.report or Refusal()).write_refused(str(refusal), written / report)
            publish(written, out, report)
            raise
        publish(written, out, report)


def _refuse_a_folder_of_others(flags: dict[str, Any], report: str, index: str) -> None:
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
