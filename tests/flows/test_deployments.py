"""A small line with a real server, a real worker and `prefect deployment run --watch`, as a user runs them."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import TaskRunSort
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.clone import environment
from tests.finished import Line

pytestmark = pytest.mark.slow
ALL = [
    "ingest",
    "validate",
    "split",
    "train",
    "fuse",
    "export",
    "build@onnxruntime-fp32",
    "build@openvino-fp32",
    "evaluate@train",
    "evaluate@fuse",
    "evaluate-onnx@export",
    "evaluate-onnx@champion",
    "evaluate-engine@onnxruntime-fp32",
    "evaluate-engine@openvino-fp32",
    "gate",
    "release",
]
PATIENCE_SECONDS = 600
ENDING_SECONDS = 20


class Service:
    """A line with registered deployments, and the server and the worker that serve the deployments."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.url = folder, f"http://127.0.0.1:{free_port()}/api"
        settings = {"PREFECT_HOME": str(home), "PREFECT_API_URL": self.url}
        self._environment = {**environment(), **settings}

    def call(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    @contextmanager
    def at_work(self, *command: str) -> Iterator[None]:
        """Keep a process running, and at the end stop the process and its children."""
        sentence = self.folder.parent / f"{command[1]}.txt"
        with sentence.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield
        finally:
            assert process.poll() is None, sentence.read_text()
            end_group(process)

    def run(self, deployment: str, *flags: str) -> tuple[int, "Run"]:
        """Run a deployment as a user does; return the exit code and the server's record of the run."""
        done = self.call("prefect", "deployment", "run", f"classify/{deployment}", "--watch", *flags)
        found = re.search(r"UUID: (\S+)", done.stdout)
        assert found, done.stdout + done.stderr
        with temporary_settings({PREFECT_API_URL: self.url}), get_client(sync_client=True) as client:
            return done.returncode, Run(client, UUID(found[1]), done.stdout)


class Run:
    """The server's record of a flow run (its state, its stages, its artifacts), and the command's output."""

    def __init__(self, client: SyncPrefectClient, run: UUID, shown: str) -> None:
        of_this = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
        tasks = client.read_task_runs(flow_run_filter=of_this, limit=100, sort=TaskRunSort.EXPECTED_START_TIME_ASC)
        made_here = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        state = client.read_flow_run(run).state
        assert state
        self.state: State[object] = state
        self.shown = " ".join(shown.split())  # the terminal's width wraps the lines
        self.stages = {task.name: task.state_name for task in tasks}
        self.artifacts = {
            artifact.key: artifact.data for artifact in client.read_artifacts(artifact_filter=made_here)
        }


@pytest.fixture(scope="module")
def service(finished_line: Line, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("deployed")
    served = Service(finished_line.copy(folder / "line").folder, folder / "home")
    port = served.url.split(":")[2].removesuffix("/api")
    with ExitStack() as running:
        running.enter_context(served.at_work("prefect", "server", "start", "--port", port))
        deployed = served.call("flows.deployments")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        running.enter_context(served.at_work("prefect", "worker", "start", "--pool", "local", "--type", "process"))
        yield served


def test_an_unchanged_line_completes_with_every_stage_cached_and_shows_verdict_and_metrics(
    service: Service,
) -> None:
    code, run = service.run("full")
    assert code == 0 and run.state.is_completed(), run.state.message
    assert run.stages == dict.fromkeys(ALL, "Cached")
    assert "PASS  every required form passed the gate" in str(run.artifacts["verdict"])
    assert "onnxruntime-fp32" in str(run.artifacts["metrics"])


def test_overrides_land_in_the_params_and_rerun_what_they_change(service: Service) -> None:
    code, run = service.run("full", "-p", 'overrides={"gate": {"max_top1_drop": 0.4}}')
    assert code == 0, run.state.message
    assert yaml.safe_load((service.folder / "params.yaml").read_text())["gate"]["max_top1_drop"] == 0.4
    assert run.stages["gate"] == "Completed"
    assert {run.stages[stage] for stage in ALL[:-2]} == {"Cached"}


def test_data_stops_at_split_and_rebuild_starts_at_fuse(service: Service) -> None:
    assert [*service.run("data")[1].stages] == ALL[:3]
    assert [*service.run("rebuild")[1].stages] == ALL[4:]


def test_a_refusal_is_exit_code_1_with_the_steps_own_sentence(service: Service) -> None:
    code, run = service.run("data", "-p", 'overrides={"split": {"min_per_class": 500}}')
    assert code == 1
    assert (run.state.name, run.stages["split"]) == ("Refused", "Refused")
    assert re.match(r"split: class 'blue' has 20 images; .*split\.min_per_class", str(run.state.message))
    assert str(run.state.message) in str(run.artifacts["verdict"])
    assert str(run.state.message) in run.shown
    assert "Traceback" not in (service.folder.parent / "worker.txt").read_text()


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Ask the process to end, then kill its group: a worker may ignore a single signal."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDING_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return int(any_port.getsockname()[1])
