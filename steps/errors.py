"""Exceptions for faults that a person can cause. The message says who, what, where, and what would be right.

The exit code is the contract with DVC and the flow: 2 for wrong flags or params, 3 for a refusal.
A bug is not a StepError; a bug ends in a traceback and exit code 1.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, Protocol

NOT_IN_GIT = "A fresh clone does not contain images that git ignores: run `dvc pull`, or copy the images there."


class RefusedReport(Protocol):
    """The report of a step that refuses, such as `steps.reports.base.Report`."""

    def write_refused(self, sentence: str, path: Path) -> None:
        """Write the report to `path`, with the sentence in its field `refused`."""


class StepError(Exception):
    """One sentence for a person, with its exit code."""

    exit_code: ClassVar[int] = 2


class BadInput(StepError):
    """Flags, params or files that cannot be used; the step wrote nothing."""


class Refused(StepError):
    """The step did its work and refuses the result; `report` has the figures and is written before exit 3."""

    exit_code = 3

    def __init__(self, sentence: str, report: RefusedReport | None = None) -> None:
        super().__init__(sentence)
        self.report = report


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest known name, or an empty string."""
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
