"""Run the flow on this machine from the command line: `python -m flows [--since STAGE] [--until STAGE]`.

Faults of the params, the paths or the engines' packages are reported before a Prefect server is started.
Heavy packages are imported after Ctrl-C is handled, because these imports take seconds.
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

INTERRUPTED = 130  # the exit code that shells use after Ctrl-C


def main() -> int:
    """Run the flow and print its table; return the exit code of the failed step, 0, or 130 after Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a shell's background job ignores SIGINT
        signal.signal(signal.SIGINT, _interrupt)
    try:
        return _run(**_flags())
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would leave child processes running
        say("interrupted; no output was left incomplete. Run the command again to continue.")
        return INTERRUPTED


def _run(overrides: dict[str, Any], since: str | None, until: str | None) -> int:
    with _interrupts_delayed():
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
        return _print_end(f"FAIL  {fault}\n", EXIT_CODES["BadInput"])
    console.say_once()
    has_server = "PREFECT_API_URL" in os.environ
    with nullcontext() if has_server else temporary_settings(restore_defaults={PREFECT_API_URL}):
        if not has_server:
            start_temporary_server()
        state = classify(overrides, since, until, return_state=True)
    logging.getLogger("prefect").setLevel(logging.WARNING)  # the table must be the last output
    table = summary.TABLE.read_text() if summary.TABLE.is_file() else f"FAIL  {state.message}\n"
    return _print_end(table, 0 if state.is_completed() else EXIT_CODES.get(state.name or "", 1))


def _print_end(text: str, code: int) -> int:
    print(f"\n{text}", end="", flush=True)
    return code


def _flags() -> dict[str, Any]:
    parser = argparse.ArgumentParser(
        prog="python -m flows", description="Bring every stage of dvc.yaml up to date, each as a Prefect task run."
    )
    parser.add_argument("--since", metavar="STAGE", help="start at this stage: leave out the stages that it needs")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument(
        "--overrides", metavar="JSON", type=_nested, default={}, help='such as {"train": {"epochs": 3}}'
    )
    return vars(parser.parse_args())


def _nested(text: str) -> dict[str, Any]:
    """Return the JSON object in `text`."""
    try:
        value = json.loads(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{fault}: write JSON, nested like params.yaml") from fault
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text} should be a JSON object, nested like params.yaml")
    return value


@contextmanager
def _interrupts_delayed() -> Iterator[None]:
    """Delay Ctrl-C until the imports end, because a package written in Rust panics on Ctrl-C during its import."""
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
    """End the run as Python does, without Prefect's log of a crash."""
    logging.disable()
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
