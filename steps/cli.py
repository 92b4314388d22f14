"""From a step's function to its command line: a step file only calls `run_step(fuse)`.

The function's signature is the contract. `params: FuseParams` is the step's section of params.yaml. `seed`,
`class_num` and `engines` are the shared keys. Every other parameter is a flag (a Path or a name). For `out`, the
function gets a hidden folder beside the final one; the hidden folder is renamed when the function ends or refuses.
"""

import argparse
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steps.errors import BadInput, Refused, StepError
from steps.files import LOCKS, end_with_parent, full_disk_named, only_writer, replace_folder, temporary_folder
from steps.params import SHARED_KEYS, Params, load_params
from steps.progress import say
from steps.reports.base import Refusal

PARENT = "STEPS_PARENT"  # a step ends when this process ends; containers/run sets the variable
Publish = Callable[[Path, Path, str], None]  # (what the step wrote, --out, the name of its report)


def replace(written: Path, out: Path, _report: str) -> None:
    """Replace the folder `out` by the folder that the step wrote."""
    replace_folder(written, out)


def run_step(
    step: Callable[..., None], publish: Publish = replace, report: str = "report.json", index: str = ""
) -> None:
    """Run `step` from the command line and exit: 0 done, 1 crashed, 2 wrong flags or params, 3 refused.

    A disk without space gives one sentence and exit code 3, and the step publishes nothing, not even a report.
    After Ctrl-C the exit code is 130, as in shells. `report` is the file in `out` with the sentence of a refusal;
    "{flag}" in `report` is replaced by the flag's value. Some steps write `index` instead of `report` when they
    succeed. If a folder has none of these files, the step did not write the folder and does not replace it.
    """
    try:
        end_with_parent(int(os.environ.get(PARENT, os.getppid())))
        flags = _parse(step)
        params = load_params(Path(flags.pop("params_file")))
        _refuse_foreign_folder(flags, report, index)
        with full_disk_named(_places(flags["out"])):
            _run(step, flags, params, publish, report.format(**flags))
    except StepError as error:
        say(f"{step.__name__}: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say(f"{step.__name__}: interrupted; no output was left incomplete. Run the step again to continue.")
        sys.exit(130)


def _run(step: Callable[..., None], flags: dict[str, Any], params: Params, publish: Publish, report: str) -> None:
    out: Path = flags.pop("out")
    names = [value for value in flags.values() if isinstance(value, str)]
    written = out.with_name("." + ".".join([out.name, *names]) + ".tmp")
    arguments = {**flags, **_from_params(step, params)}
    with only_writer(written), temporary_folder(written):
        try:
            with full_disk_named(_places(out)):  # the full disk is looked for before the hidden folder is deleted
                step(**arguments, out=written)
        except Refused as refusal:
            (refusal.report or Refusal()).write_refused(str(refusal), written / report)
            publish(written, out, report)
            raise
        publish(written, out, report)


def _places(out: Path) -> list[Path]:
    """Return the places where a step writes: its output, the caches in .foldline, and temporary files."""
    return [out, LOCKS.parent, Path(os.environ.get("TMPDIR", "/tmp"))]


def _refuse_foreign_folder(flags: dict[str, Any], report: str, index: str) -> None:
    """Raise BadInput unless `out` is new, is empty or was written by an earlier run of the step.

    For a folder that several runs share, such as evaluate's, one run's report is enough.
    """
    out: Path = flags["out"]
    if out.name in ("", ".."):
        raise BadInput(f"--out {out} cannot be replaced; name the folder itself, such as data/NAME.")
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out {out} is a file, and the step would replace it; name a folder.")
    written = [report.format(**dict.fromkeys(flags, "*")), *filter(None, [index])]
    # A run that was killed while it moved its files leaves files of this form without the report.
    unfinished = report.format(**flags).replace(".json", ".*") if "{" in report else ""
    foreign = [path for path in out.glob("*") if not (unfinished and path.match(unfinished))]
    if foreign and not any(any(out.glob(name)) for name in written):
        raise BadInput(
            f"--out {out} contains files but no {' or '.join(written)}, so this step did not write the folder and "
            "will not replace it. Remove the folder yourself, or name another one."
        )


def _parse(step: Callable[..., None]) -> dict[str, Any]:
    """Return the flags of the step's signature, as Paths or names."""
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
    signature = inspect.signature(step, eval_str=True)
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in SHARED_KEYS and section_of(step.__name__, name) is None
    }


def _from_params(step: Callable[..., None], params: Params) -> dict[str, Any]:
    parameters = inspect.signature(step).parameters
    values: dict[str, Any] = {key: getattr(params, key) for key in SHARED_KEYS if key in parameters}
    sections = {name: section_of(step.__name__, name) for name in parameters}
    return values | {name: params.section(section) for name, section in sections.items() if section is not None}


def section_of(step: str, parameter: str) -> str | None:
    """Return the section of params.yaml that a parameter stands for: `params` the step's, `gate_params` gate's."""
    if parameter == "params":
        return step
    return parameter.removesuffix("_params") if parameter.endswith("_params") else None
