"""A mutant: one planted fault, the form that it is in, and the check that must catch it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.planted.caught import Catch, caught
from benchmarks.planted.line import Line
from benchmarks.planted.places import Change, Place, planted
from steps.engines.contract import Images, Logits
from steps.errors import StepError

Terms = tuple[tuple[str, Any], ...]  # keys of params.yaml, such as `gate.required`, hashable


class Mutant(NamedTuple):
    """The change is planted at its place and the stages are driven; `check` must be what refuses, of `form`.

    `words` must stand in a sentence of it, or be a site that its certificate names. `terms` are params
    that are not the line's own.
    """

    form: str
    place: Place
    change: Change
    stages: tuple[str, ...]
    check: str
    words: str = ""
    terms: Terms = ()


class Outcome(NamedTuple):
    """What became of a mutant, and whether that is what should."""

    catch: Catch | None
    fault: str

    @property
    def held(self) -> bool:
        """Tell whether the mutant was caught by its check, and its honest twin let through."""
        return not self.fault


def drive(line: Line, mutant: Mutant, change: Change, folder: Path) -> Catch | None:
    """Return what caught the change on a copy of the line, or None."""
    copy = dataclasses.replace(line.copy(folder), keys={**line.keys, **dict(mutant.terms)})
    with planted(copy, mutant.place, change):
        for stage in mutant.stages:
            try:
                copy.drive(stage)
            except StepError as fault:
                return caught(stage, fault)
    return None


def judged(mutant: Mutant, catch: Catch | None, honest: Catch | None) -> Outcome:
    """Return whether the mutant's own check caught it, and nothing caught the line without it."""
    if honest is not None:
        return Outcome(catch, f"the honest line is refused too: {honest.sentence}")
    if catch is None:
        return Outcome(catch, "nothing caught it")
    if mutant.check not in catch.checks:
        return Outcome(catch, f"caught by {', '.join(sorted(catch.checks)) or 'an error without a name'}")
    if catch.stage == "gate" and not catch.sentence.startswith(f"{mutant.form}:"):
        return Outcome(catch, "the gate names another form")
    if not any(mutant.words in text for text in (catch.sentence, *catch.details)):
        return Outcome(catch, f"no sentence says '{mutant.words}'")
    return Outcome(catch, "")


def unchanged(thing: Any) -> Any:
    """Plant nothing."""
    return thing


class Trials:
    """Tries mutants of one line; each path without a fault is driven once."""

    def __init__(self, line: Line, scratch: Path) -> None:
        self.line, self.scratch = line, scratch
        self.honest: dict[tuple[object, ...], Catch | None] = {}
        self.count = 0

    def of(self, mutant: Mutant) -> Outcome:
        """Return what became of the mutant."""
        path = (mutant.place, mutant.stages, mutant.terms)
        if path not in self.honest:
            self.honest[path] = drive(self.line, mutant, unchanged, self._folder())
        return judged(mutant, drive(self.line, mutant, mutant.change, self._folder()), self.honest[path])

    def _folder(self) -> Path:
        self.count += 1
        return self.scratch / str(self.count)


def logits_of(change: Callable[[Logits], Logits]) -> Change:
    """Return the change of a runner whose logits_NK are changed."""
    return lambda run: lambda images_NHWC_u8: change(run(images_NHWC_u8))


def images_of(change: Callable[[Images], Images]) -> Change:
    """Return the change of a runner whose images_NHWC_u8 are changed before it sees them."""
    return lambda run: lambda images_NHWC_u8: run(change(images_NHWC_u8))
