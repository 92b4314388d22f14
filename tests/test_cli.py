"""A step's command line: exit codes, messages, and outputs that are complete or absent."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from steps.reports.base import read_refusal
from tests.full_disk import small_disk
from tests.reference_params import REFERENCE

ROOT = Path(__file__).parent.parent

STEP = """
    import sys, time
    from pathlib import Path
    from steps.cli import run_step
    from steps.errors import BadInput, Refused
    from steps.params.fuse import FuseParams

    def fuse(params: FuseParams, seed: int, model: Path, out: Path) -> None:
        '''A step for tests.'''
        (out / "half").write_text("half")
        {body}
        (out / "whole").write_text(str(seed))
        (out / "report.json").write_text("{}")

    run_step(fuse)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(REFERENCE.read_text())
    (tmp_path / "data/fuse").mkdir(parents=True)
    (tmp_path / "data/fuse/old").write_text("of the last run")
    (tmp_path / "data/fuse/report.json").write_text("{}")
    return tmp_path


def write_step(workspace: Path, body: str) -> None:
    (workspace / "step.py").write_text(textwrap.dedent(STEP).replace("{body}", body))


def start(workspace: Path, body: str, *flags: str) -> "subprocess.Popen[str]":
    write_step(workspace, body)
    return subprocess.Popen(
        [sys.executable, "step.py", *(flags or ("--model", "m", "--out", "data/fuse"))],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


def run(workspace: Path, body: str, *flags: str) -> tuple[int, str]:
    process = start(workspace, body, *flags)
    printed = process.communicate(timeout=60)[1]
    return process.returncode, printed


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_step_that_is_done_replaces_the_folder_of_the_last_run(workspace: Path) -> None:
    assert run(workspace, "pass") == (0, "")
    assert files(workspace / "data/fuse") == {"half", "whole", "report.json"}
    assert files(workspace / "data") == {"fuse"}


def test_a_crash_leaves_the_last_output_alone_and_no_half_of_the_new(workspace: Path) -> None:
    code, printed = run(workspace, "1 / 0")
    assert code == 1 and "ZeroDivisionError" in printed
    assert files(workspace / "data/fuse") == {"old", "report.json"}
    assert files(workspace / "data") == {"fuse"}


def test_bad_input_is_one_line_and_exit_2(workspace: Path) -> None:
    code, printed = run(workspace, "raise BadInput('m is no model; give a folder.')")
    assert (code, printed) == (2, "fuse: m is no model; give a folder.\n")
    assert files(workspace / "data/fuse") == {"old", "report.json"}


def test_a_refusal_writes_its_sentence_into_the_report_and_exits_3(workspace: Path) -> None:
    code, printed = run(workspace, "raise Refused('error 0.1 at site a exceeds 1e-5.')")
    assert (code, printed) == (3, "fuse: error 0.1 at site a exceeds 1e-5.\n")
    assert read_refusal(workspace / "data/fuse/report.json") == "error 0.1 at site a exceeds 1e-5."


@pytest.mark.parametrize("out", [".", "..", "data/..", "/"])
def test_a_folder_without_a_name_is_no_output(workspace: Path, out: str) -> None:
    code, printed = run(workspace, "pass", "--model", "m", "--out", out)
    assert code == 2 and f"--out {out} cannot be replaced" in printed


def test_a_folder_that_the_step_did_not_write_is_left_alone(workspace: Path) -> None:
    precious = workspace / "precious"
    precious.mkdir()
    (precious / "photo.png").write_text("of a person")
    (precious / "report.pdf").write_text("of a person")
    code, printed = run(workspace, "pass", "--model", "m", "--out", "precious")
    assert code == 2 and "--out precious contains files but no report.json" in printed
    assert run(workspace, "pass", "--model", "m", "--out", "precious/photo.png")[0] == 2
    assert files(precious) == {"photo.png", "report.pdf"} and (precious / "photo.png").read_text() == "of a person"


def test_an_empty_folder_and_one_that_says_no_are_replaced(workspace: Path) -> None:
    (workspace / "data/other").mkdir()
    flags = ("--model", "m", "--out", "data/other")
    assert run(workspace, "raise Refused('no.')", *flags)[0] == 3
    assert run(workspace, "pass", *flags) == (0, "")
    assert files(workspace / "data/other") == {"half", "whole", "report.json"}


SHARED = ', publish=__import__("steps.files").files.merge_into_folder, report="{model}.json")'


@pytest.mark.parametrize(
    ("there", "code"),
    [
        ([], 0),
        (["m.whole"], 0),
        (["other.whole", "other.json"], 0),
        (["photo.png"], 2),
        (["photo.png", "m.whole"], 2),
    ],
)
def test_a_shared_folder_must_hold_the_report_of_one_of_the_runs(
    workspace: Path, there: list[str], code: int
) -> None:
    write_step(workspace, "pass")
    script = workspace / "step.py"
    script.write_text(script.read_text().replace("run_step(fuse)", f"run_step(fuse{SHARED}"))
    (workspace / "data/shared").mkdir()
    for name in there:
        (workspace / "data/shared" / name).write_text("")
    ran = subprocess.run(
        [sys.executable, "step.py", "--model", "m", "--out", "data/shared"],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ran.returncode == code
    assert set(there) <= files(workspace / "data/shared")


def test_a_folder_in_the_place_of_a_shared_file_is_named(workspace: Path) -> None:
    write_step(workspace, "pass")
    script = workspace / "step.py"
    script.write_text(script.read_text().replace("run_step(fuse)", f"run_step(fuse{SHARED}"))
    (workspace / "data/shared/whole").mkdir(parents=True)
    (workspace / "data/shared/other.json").touch()
    ran = subprocess.run(
        [sys.executable, "step.py", "--model", "m", "--out", "data/shared"],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    printed = "fuse: data/shared/whole cannot be replaced: Is a directory; remove it.\n"
    assert (ran.returncode, ran.stderr) == (2, printed)


WRITE = "(out / 'large').write_bytes(bytes(5 * 2**20))"
NO_SPACE_BODIES = {
    "Python": WRITE,
    "write_whole": "from steps.files import write_whole; write_whole(out / 'large', bytes(5 * 2**20))",
    "polars": (
        "import polars as pl; import random; random.seed(0); "
        "pl.DataFrame({'a': [random.random() for _ in range(10**6)]}).write_parquet(out / 'large')"
    ),
    "a library that names no reason": (
        "exec('try:\\n  (out / \"large\").write_bytes(bytes(5 * 2**20))\\nexcept OSError: pass'); "
        "raise RuntimeError('iostream error')"
    ),
    "a refusal that was caused by it": (
        f"exec('try:\\n  {WRITE}\\nexcept OSError as fault:\\n  raise Refused(\"not built\") from fault')"
    ).replace("(out / 'large')", "(out / \\'large\\')"),
    "a copy": (
        "import shutil; open('large', 'wb').write(bytes(5 * 2**20)); shutil.copyfile('large', out / 'large')"
    ),
    "another process": "raise OSError(28, 'No space left on device')",
}


@pytest.mark.parametrize("body", NO_SPACE_BODIES.values(), ids=NO_SPACE_BODIES)
def test_a_disk_without_space_is_one_sentence_and_exit_3_and_nothing_is_published(
    workspace: Path, body: str
) -> None:
    with small_disk(workspace / "disk") as disk:
        old = disk / "fuse"
        old.mkdir()
        (old / "report.json").write_text("{}")
        code, printed = run(workspace, body, "--model", "m", "--out", "disk/fuse")
        assert code == 3, printed
        (line,) = printed.splitlines()
        assert line.startswith("fuse: ") and "disk/" in line.partition(" needs ")[0]
        assert "needs more than the 4,1" in line and " bytes that are free there. Free some space there" in line
        assert files(disk) == {"fuse"} and files(old) == {"report.json"}


def test_a_refusal_whose_report_finds_no_space_is_not_published(workspace: Path) -> None:
    body = "(out / 'large').write_bytes(bytes(4 * 2**20 - 4096 * 2)); raise Refused('no' * 10**4)"
    with small_disk(workspace / "disk") as disk:
        code, printed = run(workspace, body, "--model", "m", "--out", "disk/fuse")
        assert code == 3 and printed.startswith("fuse: disk/.fuse.tmp/report.json needs more than the "), printed
        assert files(disk) == set()


def test_the_limit_of_a_files_size_is_one_sentence_and_exit_3(workspace: Path) -> None:
    body = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)); {WRITE}"
    code, printed = run(workspace, body)
    assert code == 3 and "a file there may have at most 4,096 bytes (ulimit -f)" in printed, printed
    assert files(workspace / "data") == {"fuse"} and files(workspace / "data/fuse") == {"old", "report.json"}


def test_a_quota_is_one_sentence_and_exit_3(workspace: Path) -> None:
    code, printed = run(workspace, "raise OSError(122, 'Disk quota exceeded', 'data/large')")
    assert code == 3 and "data/large needs more bytes, but the disk quota is used up" in printed
    assert files(workspace / "data/fuse") == {"old", "report.json"}


def test_ctrl_c_is_one_line_and_exit_130(workspace: Path) -> None:
    process = start(workspace, "time.sleep(60)")
    wait_for(workspace / "data/.fuse.tmp/half")
    process.send_signal(signal.SIGINT)
    printed = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and printed.startswith("fuse: interrupted; no output was left incomplete.")
    assert files(workspace / "data") == {"fuse"}


@pytest.mark.parametrize("flags", [("--model", "m"), ("--model", "m", "--out", "o", "--other", "x")])
def test_wrong_flags_are_exit_2(workspace: Path, flags: tuple[str, ...]) -> None:
    code, printed = run(workspace, "pass", *flags)
    assert code == 2 and "--o" in printed


def test_an_unknown_key_is_exit_2_and_names_the_near_one(workspace: Path) -> None:
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("max_error_fp32", "max_eror_fp32"))
    code, printed = run(workspace, "pass")
    assert code == 2
    assert "fuse.max_eror_fp32: unknown key. Did you mean 'max_error_fp32'?" in printed
    assert files(workspace / "data/fuse") == {"old", "report.json"}


def test_all_faults_of_params_are_reported_at_once(workspace: Path) -> None:
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: -1").replace("lr: 0.1", "lr: fast"))
    code, printed = run(workspace, "pass")
    assert code == 2 and "seed:" in printed and "train.lr:" in printed


def test_a_killed_step_leaves_nothing_under_the_final_name_and_running_again_finishes(workspace: Path) -> None:
    process = start(workspace, "time.sleep(60)")
    wait_for(workspace / "data/.fuse.tmp/half")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert files(workspace / "data/fuse") == {"old", "report.json"}
    assert run(workspace, "pass")[0] == 0
    assert files(workspace / "data") == {"fuse"}


def test_a_second_writer_of_the_same_output_is_refused(workspace: Path) -> None:
    first = start(workspace, "time.sleep(60)")
    wait_for(workspace / "data/.fuse.tmp/half")
    code, printed = run(workspace, "pass")
    first.kill()
    first.communicate()
    assert code == 2 and "another run is writing data" in printed


def test_a_step_ends_when_its_parent_is_killed(workspace: Path) -> None:
    parent = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"
    write_step(workspace, "time.sleep(60)")
    shell = subprocess.Popen(
        [sys.executable, "-c", parent, "step.py", "--model", "m", "--out", "data/fuse"],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    wait_for(workspace / "data/.fuse.tmp/half")
    shell.kill()
    shell.wait()
    assert run(workspace, "pass")[0] == 0, "the orphan still holds the lock"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child when its parent is killed")
def test_a_step_whose_parent_ended_before_it_looked_writes_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPS_PARENT", str(os.getppid()))  # the parent of this process
    assert run(workspace, "pass") == (1, "")
    assert files(workspace / "data/fuse") == {"old", "report.json"}
    monkeypatch.setenv("STEPS_PARENT", str(os.getpid()))
    assert run(workspace, "pass") == (0, "")


def wait_for(path: Path) -> None:
    for _ in range(300):
        if path.exists():
            return
        time.sleep(0.1)
    raise TimeoutError(path)
