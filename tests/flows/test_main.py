"""`python -m flows`: faults are reported at once, refusals where they happen and at the end; Ctrl-C ends all."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from flows import server as temporary
from flows.__main__ import main
from tests.finished import processes_in
from tests.flows.toy import Line

PATIENCE_SECONDS = 60.0
REFUSED = "class 'crack' has 7 images."
INTERRUPTED = "interrupted; no output was left incomplete. Run the command again to continue.\n"


@pytest.mark.parametrize("text", ["3", "[1]", '{"train": ', "train.lr=3"])
def test_overrides_that_are_no_object_are_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["flows", "--overrides", text])
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert ended.value.code == 2 and "argument --overrides: " in message and "nested like params.yaml" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": {"lrr": 1}}, "params.yaml with the run's overrides has 1 fault(s):\n  train.lrr: unknown key."),
        ({"ingest": {"source": "data/raww"}}, "ingest.source: data/raww is not there"),
        ({"engines": ["onnxruntime-fp32", "tensorrt-fp16"]}, "engines: tensorrt-fp16 cannot be built here"),
    ],
)
def test_what_is_wrong_is_one_message_and_exit_2_before_any_server_is_started(
    line: Line,
    arguments: dict[str, object],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(temporary, "start_temporary_server", lambda: pytest.fail("a server was started"))
    monkeypatch.setattr("flows.engines.find_spec", lambda name: None if name == "tensorrt" else name)
    monkeypatch.setattr(sys, "argv", ["flows", "--overrides", json.dumps(arguments)])
    before = (line.root / "params.yaml").read_bytes()
    assert main() == 2
    shown = capsys.readouterr()
    assert shown.out.startswith(f"\nFAIL  {message}") and shown.err == ""
    assert (line.root / "params.yaml").read_bytes() == before and line.ran() == []


@pytest.mark.usefixtures("server")
def test_a_refusal_is_said_where_it_happened_and_at_the_end(line: Line) -> None:
    line.refuse("split", REFUSED)
    step = (line.root / "step").read_text().replace("said otherwise", REFUSED)
    line.write("step", step)
    done = start(line)
    out, err = done.communicate(timeout=PATIENCE_SECONDS)
    assert done.returncode == 3, err
    assert out.endswith(f"\nFAIL  split: {REFUSED}\n")
    assert (out + err).count(REFUSED) == 2 and "Finished in state Refused\n" in out + err


@pytest.mark.usefixtures("server")
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_ctrl_c_ends_with_one_line_and_exit_130_and_leaves_no_orphan(line: Line) -> None:
    line.write("sleep.ingest", "")
    run = start(line)
    await_that(lambda: (line.root / "pid.txt").exists(), run)
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode == 130
    assert err.endswith(INTERRUPTED) and "Traceback" not in out + err and "Crash" not in out + err
    assert not processes_in(line.root).keys() - {os.getpid()}


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_ctrl_c_while_packages_are_imported_ends_with_the_same_line(line: Line) -> None:
    run = start(line)
    await_that(lambda: "pydantic_core" in Path(f"/proc/{run.pid}/maps").read_text(), run)
    os.killpg(run.pid, signal.SIGINT)
    out, err = run.communicate(timeout=PATIENCE_SECONDS)
    assert (run.returncode, out, err) == (130, "", INTERRUPTED)


def start(line: Line) -> "subprocess.Popen[str]":
    """Start the command line as the leader of a process group, as a shell does, on the session's server."""
    return subprocess.Popen(
        [sys.executable, "-m", "flows"],
        cwd=line.root,
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def await_that(holds: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert process.poll() is None and time.monotonic() < deadline, "it never came so far"
        time.sleep(0.02)
