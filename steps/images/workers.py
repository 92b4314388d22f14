"""A pool of processes for work on untrusted files: when a task crashes its process, the run continues."""

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
    """Yield `work(chunk)` for each chunk, in order; a task that crashes its process gets `crashed(task)`.

    `work` and the tasks must be picklable. At most 2 * workers chunks are in progress, which limits the memory.
    """
    waiting = iter(chunks)
    pool = spawned(workers, _begin)
    try:
        submitted = [(chunk, _submit(pool, work, chunk)) for chunk in islice(waiting, 2 * workers)]
        while submitted:
            chunk, future = submitted.pop(0)
            try:
                results = future.result()
            except BrokenProcessPool:
                pool.shutdown(cancel_futures=True)
                results = _one_by_one(work, chunk, crashed)
                pool = spawned(workers, _begin)
                submitted = [
                    (later, _if_done(earlier) or _submit(pool, work, later)) for later, earlier in submitted
                ]
            submitted += [(later, _submit(pool, work, later)) for later in islice(waiting, 1)]
            yield results
    finally:
        pool.shutdown(cancel_futures=True)


def spawned(workers: int, begin: Callable[[int], None]) -> ProcessPoolExecutor:
    """Return a pool whose processes first call `begin(pid of this process)`, such as `end_with_parent`.

    The processes are spawned, because a fork of a process with threads (polars has threads) may hang.
    """
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=begin, initargs=(os.getpid(),))


def _submit(
    pool: ProcessPoolExecutor, work: Callable[[Sequence[Task]], list[Result]], chunk: Sequence[Task]
) -> "Future[list[Result]]":
    try:
        return pool.submit(work, chunk)
    except BrokenProcessPool as broken:  # an earlier chunk broke the pool, and its result was not read yet
        failed: Future[list[Result]] = Future()
        failed.set_exception(broken)
        return failed


def _if_done(future: "Future[list[Result]]") -> "Future[list[Result]] | None":
    return future if future.done() and future.exception() is None else None


def _one_by_one(
    work: Callable[[Sequence[Task]], list[Result]], chunk: Sequence[Task], crashed: Callable[[Task], Result]
) -> list[Result]:
    """Return the results of a chunk that crashed its process; now a crash affects one task only."""
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends the pool
    end_with_parent(parent)
