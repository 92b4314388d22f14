"""The graph equals DVC's graph: its order, its bounds, the files of removed stages, and the report of a step."""

import pytest

from flows import graph
from steps.errors import BadInput
from tests.flows.toy import Line

ALL = [
    "ingest",
    "split",
    "build@onnxruntime-fp32",
    "build@openvino-fp32",
    "evaluate-engine@onnxruntime-fp32",
    "evaluate-engine@openvino-fp32",
    "gate",
]


@pytest.mark.parametrize(
    ("since", "until", "stages"),
    [
        (None, None, ALL),
        (None, "split", ALL[:2]),
        ("build", None, ALL[2:]),
        ("build@openvino-fp32", None, ALL[2:]),
        ("build", "evaluate-engine@openvino-fp32", [ALL[3], ALL[5]]),
        ("evaluate", None, ALL[4:]),
        ("evaluate", "evaluate", ALL[4:6]),
        ("gate", "gate", ALL[6:]),
    ],
)
def test_a_plan_is_a_part_of_the_order(
    done: Line, since: str | None, until: str | None, stages: list[str]
) -> None:
    assert done.root and graph.plan(since, until) == stages


def test_a_plan_that_begins_in_the_middle_says_what_it_misses(line: Line) -> None:
    with pytest.raises(BadInput, match=r"needs data/split \(of split\)\. Run the whole line"):
        graph.plan(since="build")
    with pytest.raises(BadInput, match=r"needs data/evaluate/onnxruntime-fp32\.json .*Run the whole line"):
        graph.plan(since="gate")  # gate reads the folder that holds the outputs of other stages
    assert graph.plan(since="ingest") and line.ran() == []


def test_a_plan_says_which_key_names_a_path_that_is_not_there(line: Line) -> None:
    line.source("data/raww")
    message = r"^ingest\.source: data/raww is not there; ingest reads it, and no stage writes it\. Put it there"
    with pytest.raises(BadInput, match=message):
        graph.plan()
    line.source("source")
    (line.root / "step").unlink()
    with pytest.raises(BadInput, match=r"^step is not there; ingest reads it"):
        graph.plan(until="ingest")


def test_what_a_plan_leaves_out_may_be_missing(done: Line) -> None:
    (done.root / "source").unlink()
    assert graph.plan(since="split") == ALL[1:]


def test_images_that_dvc_tracks_and_did_not_fetch_are_missing(line: Line) -> None:
    (line.root / "raw").mkdir()
    line.write("raw/image", "pixels")
    line.dvc("add", "-q", "raw")
    line.source("raw")
    assert graph.plan(until="ingest") == ["raw.dvc", "ingest"]
    (line.root / "raw/image").unlink()
    (line.root / "raw").rmdir()
    with pytest.raises(BadInput, match=r"ingest\.source: raw is not there; ingest reads it"):
        graph.plan()


def test_images_among_the_outputs_are_no_plan(line: Line) -> None:
    line.source("data/gate")
    with pytest.raises(BadInput, match="dvc finds no order of the stages"):
        graph.plan()


@pytest.mark.usefixtures("line")
def test_an_unknown_stage_is_named_with_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"no stage .splitt.\. Did you mean .split.\?"):
        graph.plan(until="splitt")


def test_a_stage_is_unchanged_until_something_that_it_reads_changes(done: Line) -> None:
    assert graph.is_unchanged("ingest") and graph.is_unchanged("split")
    done.write("source", "others\n")
    assert not graph.is_unchanged("ingest") and graph.is_unchanged("split")


def test_prune_removes_the_files_and_the_lock_entries_of_a_dropped_engine_and_nothing_else(done: Line) -> None:
    before = done.outputs()
    assert graph.prune() == []
    done.engines("onnxruntime-fp32")
    gone = {path for path in before if "openvino-fp32" in path}
    entries = {f"{name}@openvino-fp32 in dvc.lock" for name in ("build", "evaluate-engine")}
    assert len(gone) == 3 and set(graph.prune()) == gone | entries
    assert done.outputs() == before - gone and not (done.root / "data/build/openvino-fp32").exists()
    assert graph.prune() == []


@pytest.mark.parametrize(
    ("stage", "report"),
    [
        ("split", "data/split/report.json"),
        ("gate", "data/gate/verdict.json"),
        ("build@openvino-fp32", "data/build/openvino-fp32/report.json"),
        ("evaluate-engine@openvino-fp32", "data/evaluate/openvino-fp32.json"),
    ],
)
def test_a_refusal_is_read_from_the_stages_own_report(done: Line, stage: str, report: str) -> None:
    done.write(report, '{"refused": null}')
    assert graph.refusal(stage) is None
    done.write(report, '{"refused": "no.", "images": 3}')
    assert graph.refusal(stage) == "no."
