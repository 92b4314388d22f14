"""The flow from the command line, here and now: `python -m flows [--since STAGE] [--until STAGE]`.

What is wrong with the params, the paths or the engines' packages is said before a server is started for the run.
Heavy packages are imported below the line that catches Ctrl-C: importing them takes seconds.
"""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

from steps.errors import BadInput
from steps.progress import say

INTERRUPTED = 130  # as shells have it


def main() -> int:
    """Run the flow, print its table, and return a step's exit code, or 130 where a person pressed Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores it
        signal.signal(signal.SIGINT, _interrupt)
    try:
        return _run(**_flags())
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is ended at exit would be left by a second one
        say("interrupted; nothing was half written. Run it again to go on.")
        return INTERRUPTED


def _run(overrides: dict[str, Any], since: str | None, until: str | None) -> int:
    with _interrupts_held_back():
        from prefect.settings import PREFECT_API_URL, temporary_settings

        from flows import console, summary
        from flows.classify import classify
        from flows.preparing import check
        from flows.server import start_temporary_server
        from flows.stages import EXIT_CODES

    summary.TABLE.unlink(missing_ok=True)
    try:
        check(overrides, since, until)
    except BadInput as fault:
        return _ended(f"FAIL  {fault}\n", EXIT_CODES["BadInput"])
    console.say_once()
    given = "PREFECT_API_URL" in os.environ
    with nullcontext() if given else temporary_settings(restore_defaults={PREFECT_API_URL}):
        if not given:
            start_temporary_server()
        state = classify(overrides, since, until, return_state=True)
    logging.getLogger("prefect").setLevel(logging.WARNING)  # the table comes last
    table = summary.TABLE.read_text() if summary.TABLE.is_file() else f"FAIL  {state.message}\n"
    return _ended(table, 0 if state.is_completed() else EXIT_CODES.get(state.name or "", 1))


def _ended(said: str, code: int) -> int:
    print(f"\n{said}", end="", flush=True)
    return code


def _flags() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m flows", description="Bring every stage of dvc.yaml up to date, each as a Prefect task run."
    )
    parser.add_argument("--since", metavar="STAGE", help="leave out what this stage needs")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument(
        "--overrides", metavar="JSON", type=_nested, default={}, help='such as {"train": {"epochs": 3}}'
    )
    return vars(parser.parse_args())


def _nested(text: str) -> dict[str, Any]:
    """Return the JSON object that the text is."""
    try:
        value = json.loads(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{fault}: it should be JSON, nested as params.yaml is") from fault
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text} should be an object, nested as params.yaml is")
    return value


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait for the imports to end: a package written in Rust panics where it comes in between."""
    handler = signal.getsignal(signal.SIGINT)
    pressed: list[int] = []
    if handler is _interrupt:
        signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if pressed:
        _interrupt(signal.SIGINT, None)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """End the run as Python does, without what Prefect would log of a crash."""
    logging.disable()
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
