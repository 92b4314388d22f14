"""The flow does what `dvc repro` does, and reports the outcome: cached, refused, crashed or tried again."""

import logging
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import TaskRunSort

from flows import graph, stages
from flows.classify import classify
from tests.flows.toy import Line

pytestmark = pytest.mark.usefixtures("server")


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.run_stage, "retry_delay_seconds", 0)


def run(**parameters: Any) -> State[Any]:
    return classify(**parameters, return_state=True)


def task_runs(state: State[Any]) -> dict[str, str]:
    """Return the name of the state of each task run of this flow run, in order."""
    with get_client(sync_client=True) as client:
        of_this = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        runs = client.read_task_runs(flow_run_filter=of_this, limit=100, sort=TaskRunSort.EXPECTED_START_TIME_ASC)
    return {task_run.name: str(task_run.state_name) for task_run in runs}


def test_each_stage_is_a_task_run_and_the_lock_is_that_of_dvc_repro(line: Line, done_line: Line) -> None:
    state = run()
    assert state.is_completed() and task_runs(state) == dict.fromkeys(graph.plan(), "Completed")
    assert line.lock == done_line.lock


def test_an_unchanged_stage_is_cached(done: Line) -> None:
    assert task_runs(run()) == dict.fromkeys(graph.plan(), "Cached")
    assert done.ran() == []


def test_an_engine_dropped_and_another_added_leave_the_lock_of_dvc_repro(done: Line, tmp_path: Path) -> None:
    other = done.copy(tmp_path / "other")
    for repository in (done, other):
        repository.engines("onnxruntime-fp32", "openvino-int8")
    assert run().is_completed()
    other.prune()
    other.dvc("repro")
    assert done.lock == other.lock
    assert done.outputs() == other.outputs()


def test_overrides_are_written_into_the_params_and_rerun_what_they_change(done: Line) -> None:
    assert run(overrides={"gate": {"max_top1_drop": 0.02}}).is_completed()
    assert done.ran() == ["gate"]
    assert "max_top1_drop: 0.02" in (done.root / "params.yaml").read_text()


def test_a_refusal_fails_the_run_at_once_with_the_steps_own_sentence(line: Line) -> None:
    line.refuse("split", "class 'crack' has 7 images.")
    state = run()
    assert (state.name, state.message) == ("Refused", "split: class 'crack' has 7 images.")
    assert task_runs(state) == {"ingest": "Completed", "split": "Refused"}
    assert line.ran() == ["ingest", "split"]


def test_a_refusal_that_dvc_was_told_to_keep_stays_one(done: Line) -> None:
    done.write("data/split/report.json", '{"refused": "no."}')
    done.dvc("commit", "--force")
    state = run()
    assert (state.name, state.message) == ("Refused", "split: no.")
    assert task_runs(state) == {"ingest": "Cached", "split": "Refused"} and done.ran() == []


def test_a_crash_is_tried_again(line: Line) -> None:
    line.write("crash.split", "once")
    assert run(until="split").is_completed()
    assert line.ran() == ["ingest", "split", "split"]


def test_a_lasting_crash_fails_the_run_and_says_how_the_step_ended(line: Line) -> None:
    line.write("crash.ingest", "always")
    state = run()
    assert state.is_failed() and "ingest crashed (the step exited with 1)" in str(state.message)
    assert line.ran() == ["ingest"] * 3


def test_wrong_flags_are_not_tried_again(line: Line) -> None:
    line.write("bad.ingest", "")
    state = run()
    assert (state.name, state.message) == ("BadInput", "ingest: the flag is wrong.")
    assert line.ran() == ["ingest"]


def test_wrong_params_end_the_run_before_anything_runs_or_is_written(line: Line) -> None:
    before = (line.root / "params.yaml").read_bytes()
    state = run(overrides={"train": {"lrr": 1}, "split": {"val": 2}})
    assert state.name == "BadInput" and "train.lrr: unknown key. Did you mean 'lr'?" in str(state.message)
    assert "split.val" in str(state.message)
    assert (line.root / "params.yaml").read_bytes() == before and line.ran() == []


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"overrides": {"ingest": {"source": "data/raww"}}}, "ingest.source: data/raww is not there"),
        ({"overrides": {"train": {"lr": 0.07}}, "since": "fuze"}, "dvc.yaml has no stage 'fuze'"),
    ],
)
def test_nothing_is_written_or_run_when_anything_is_wrong(
    line: Line, parameters: dict[str, Any], sentence: str
) -> None:
    before = (line.root / "params.yaml").read_bytes()
    state = run(**parameters)
    assert state.name == "BadInput" and sentence in str(state.message)
    assert (line.root / "params.yaml").read_bytes() == before and line.ran() == []


def test_a_run_says_what_it_sets_and_what_stood_there(done: Line, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("prefect.flow_runs")
    caplog.set_level(logging.INFO, log.name)
    log.addHandler(caplog.handler)
    try:
        run(overrides={"gate": {"max_top1_drop": 0.02}}, until="ingest")
    finally:
        log.removeHandler(caplog.handler)
    assert "params.yaml: this run sets gate.max_top1_drop: 0.01 -> 0.02" in caplog.text
