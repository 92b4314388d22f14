"""A refused gate is explained by localise, and stays refused whether or not the explanation succeeds."""

import logging
from collections.abc import Iterator

import pytest

from flows.classify import classify
from steps.reports.verdict import Criterion, FormVerdict, Judgement, Verdict
from tests.flows.toy import Line

pytestmark = pytest.mark.usefixtures("server")

SENTENCE = "onnxruntime-fp32: top1_drop 0.3 exceeds 0.01"
RUN = """#!/bin/sh
echo "$@" > localised.txt
echo "$2 drifts at conv2d"
echo "no page" >&2
exit {code}
"""


def refuse_gate(
    line: Line, sentence: str = SENTENCE, metric: str = "top1_drop", judgement: Judgement = "fail"
) -> None:
    names = ("train", "onnxruntime-fp32")
    forms = tuple(FormVerdict(form=name, judgement="fail", required=True) for name in names)
    rows = tuple(Criterion(form=name, metric=metric, judgement=judgement, sentence="") for name in names)
    verdict = Verdict(refused=sentence, judgement=judgement, forms=forms, criteria=rows)
    line.write("refuse.gate", verdict.model_dump_json())


def install(line: Line, code: int) -> None:
    (line.root / "containers").mkdir()
    line.write("containers/run", RUN.format(code=code))
    (line.root / "containers/run").chmod(0o755)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("prefect.flow_runs")
    monkeypatch.setattr(logger, "disabled", False)  # other tests' packages may have disabled it
    caplog.set_level(logging.INFO, logger.name)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_the_refused_form_is_localised_and_the_log_says_where_it_drifts(
    before_gate: Line, log: pytest.LogCaptureFixture
) -> None:
    refuse_gate(before_gate)
    install(before_gate, code=0)
    state = classify(return_state=True)
    assert (state.name, state.message) == ("Refused", f"gate: {SENTENCE}")
    assert (before_gate.root / "localised.txt").read_text().split() == ["localise", "onnxruntime-fp32"]
    assert "onnxruntime-fp32 drifts at conv2d" in log.text


def test_a_localisation_that_fails_leaves_the_refusal_as_it_is(
    before_gate: Line, log: pytest.LogCaptureFixture
) -> None:
    refuse_gate(before_gate)
    install(before_gate, code=1)
    state = classify(return_state=True)
    assert (state.name, state.message) == ("Refused", f"gate: {SENTENCE}")
    assert "not localised: no page" in log.text


def test_without_the_tool_the_refusal_is_the_same(before_gate: Line) -> None:
    refuse_gate(before_gate)
    state = classify(return_state=True)
    assert (state.name, state.message) == ("Refused", f"gate: {SENTENCE}")


@pytest.mark.parametrize(("metric", "judgement"), [("chain", "fail"), ("run", "deferred")])
def test_a_form_that_was_not_judged_by_what_it_computes_is_not_localised(
    before_gate: Line, metric: str, judgement: Judgement
) -> None:
    install(before_gate, code=0)
    refuse_gate(before_gate, metric=metric, judgement=judgement)
    assert classify(return_state=True).name == "Refused"
    assert not (before_gate.root / "localised.txt").exists()


def test_a_network_that_guesses_is_not_localised(before_gate: Line) -> None:
    install(before_gate, code=0)
    refuse_gate(before_gate, "train: top1 0.1 is not shown to beat chance")
    assert classify(return_state=True).name == "Refused"
    assert not (before_gate.root / "localised.txt").exists()


def test_a_refusal_of_another_step_is_not_localised(line: Line) -> None:
    install(line, code=0)
    line.refuse("split", "onnxruntime-fp32: class 'crack' has 7 images.")
    assert classify(return_state=True).name == "Refused"
    assert not (line.root / "localised.txt").exists()
