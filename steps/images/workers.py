"""A pool of processes for work on untrusted files: a task that kills its process costs that task, not the run."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

from steps.files import end_with_parent

Task = TypeVar("Task")
Result = TypeVar("Result")


def map_in_processes(
    work: Callable[[Sequence[Task]], list[Result]],
    chunks: Iterable[Sequence[Task]],
    crashed: Callable[[Task], Result],
    workers: int,
) -> Iterator[list[Result]]:
    """Yield `work(chunk)` for each chunk, in order; `crashed(task)` stands for a task that kills its process.

    `work` and the tasks must be picklable. Only a few chunks are under way, so memory does not grow with them.
    """
    waiting = iter(chunks)
    pool = spawned(workers, _begin)
    try:
        ahead = [(chunk, _submit(pool, work, chunk)) for chunk in islice(waiting, 2 * workers)]
        while ahead:
            chunk, future = ahead.pop(0)
            try:
                results = future.result()
            except BrokenProcessPool:
                pool.shutdown(cancel_futures=True)
                results = _one_by_one(work, chunk, crashed)
                pool = spawned(workers, _begin)
                ahead = [(later, _still_done(begun) or _submit(pool, work, later)) for later, begun in ahead]
            ahead += [(later, _submit(pool, work, later)) for later in islice(waiting, 1)]
            yield results
    finally:
        pool.shutdown(cancel_futures=True)


def spawned(workers: int, begin: Callable[[int], None]) -> ProcessPoolExecutor:
    """Return a pool whose processes begin with `begin(pid of this one)`, such as `end_with_parent`.

    They start anew: a fork of a process with threads (polars has them) may hang.
    """
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=begin, initargs=(os.getpid(),))


def _submit(
    pool: ProcessPoolExecutor, work: Callable[[Sequence[Task]], list[Result]], chunk: Sequence[Task]
) -> "Future[list[Result]]":
    try:
        return pool.submit(work, chunk)
    except BrokenProcessPool as broken:  # by a chunk before this one, whose turn has not come yet
        failed: Future[list[Result]] = Future()
        failed.set_exception(broken)
        return failed


def _still_done(begun: "Future[list[Result]]") -> "Future[list[Result]] | None":
    return begun if begun.done() and begun.exception() is None else None


def _one_by_one(
    work: Callable[[Sequence[Task]], list[Result]], chunk: Sequence[Task], crashed: Callable[[Task], Result]
) -> list[Result]:
    """Return the results of a chunk whose process died, each task in a process that only it can take down."""
    results: list[Result] = []
    pool = spawned(1, _begin)
    try:
        for task in chunk:
            try:
                results += pool.submit(work, [task]).result()
            except BrokenProcessPool:
                results.append(crashed(task))
                pool.shutdown()
                pool = spawned(1, _begin)
    finally:
        pool.shutdown()
    return results


def _begin(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends the pool
    end_with_parent(parent)
