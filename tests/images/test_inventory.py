"""The inventory keeps the order, uses all cores, and continues after a bad file."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from steps.images.inventory import mark, take_inventory
from steps.images.sources.listing import plain_files
from steps.images.workers import map_in_processes


def double_or_die(tasks: Sequence[int]) -> list[int]:
    if any(task == 3 for task in tasks):
        os._exit(139)
    return [2 * task for task in tasks]


def test_a_task_that_kills_its_process_costs_that_task_alone() -> None:
    chunks = [range(begin, begin + 4) for begin in range(0, 20, 4)]
    results = map_in_processes(double_or_die, chunks, crashed=lambda task: -task, workers=2)
    assert [result for some in results for result in some] == [
        -task if task == 3 else 2 * task for task in range(20)
    ]


def test_an_inventory_keeps_rows_and_order(tmp_path: Path) -> None:
    names = [f"{number:03d}.png" for number in range(70)]
    for number, name in enumerate(names[:-1]):
        Image.new("L", (number + 1, 2)).save(tmp_path / name)
    rows = plain_files(file=names, label=range(70), split=[None] * 70)
    found = take_inventory(rows, tmp_path)
    assert found["name"].to_list() == names
    assert found["label"].to_list() == list(range(70))
    assert found["width"].to_list() == [*range(1, 70), None]
    assert found["faults"].to_list() == [[]] * 69 + [["missing"]]
    assert found["length"].to_list()[0] == (tmp_path / names[0]).stat().st_size


def test_marked_rows_have_that_fault_alone() -> None:
    rows = pl.DataFrame({"name": ["a", "b"], "faults": [["missing"], []], "detail": ["gone", None]},
                        schema_overrides={"faults": pl.List(pl.String)})  # fmt: skip
    assert mark(rows, ["a"], "bad_name")["faults"].to_list() == [["bad_name"], []]
    assert mark(rows, [], "bad_name").equals(rows)


@pytest.mark.skipif(sys.platform != "linux", reason="the signal of a parent's death is Linux's")
def test_a_killed_run_leaves_no_worker(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import os, pathlib, time
        from steps.images.workers import map_in_processes

        def work(tasks):
            pathlib.Path(f"{tasks[0]}.pid").write_text(str(os.getpid()))
            time.sleep(60)
            return tasks

        if __name__ == "__main__":
            list(map_in_processes(work, [[1], [2]], None, workers=2))
        """)
    )
    run = subprocess.Popen(
        [sys.executable, script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stderr=subprocess.DEVNULL,  # its resource tracker reports leftovers of the killed run
    )
    files = [tmp_path / "1.pid", tmp_path / "2.pid"]
    wait_until(lambda: all(file.is_file() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_until(lambda: not any(is_running(worker) for worker in workers))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
