"""Progress of long work: a bar with rate and remaining time on a terminal, or a line every 15 s in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
LOG_EVERY_SECONDS = 15.0


def track(items: Iterable[Item], label: str, total: int, unit: str = "it") -> Iterator[Item]:
    """Yield `items` and show the progress of `label`; `total` is the number of items, counted in `unit`."""
    if sys.stderr.isatty():
        return _with_bar(items, label, total, unit)
    return _with_lines(items, label, total, unit)


def say(line: str) -> None:
    """Print one line of the step's log to stderr, because stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def _with_bar(items: Iterable[Item], label: str, total: int, unit: str) -> Iterator[Item]:
    from tqdm import tqdm

    yield from tqdm(items, desc=label, total=total, unit=unit, dynamic_ncols=True, leave=False)


def _with_lines(items: Iterable[Item], label: str, total: int, unit: str) -> Iterator[Item]:
    begin = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= LOG_EVERY_SECONDS:
            last = now
            rate = done / (now - begin)
            say(f"{label}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {(total - done) / rate:.0f} s left")
