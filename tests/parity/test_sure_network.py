"""A network that is sure of every answer has a softmax of 0 and 1; its scores are therefore judged directly."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from steps.metrics import scores as kept_scores
from steps.parity.judge import judge
from steps.parity.logits import ROUNDING
from steps.reports.verdict import Verdict
from tests.parity.forms import NAMES, Forms, Logits, labels_of

EACH = ("onnxruntime-fp32", "openvino-fp16", "openvino-bf16", "openvino-int8")
Change = Callable[[Logits], npt.NDArray[np.floating]]
FAULTS: dict[str, Change] = {
    "halved": lambda logits_NK: logits_NK / 2,
    "doubled": lambda logits_NK: logits_NK * 2,
    "noise": lambda logits_NK: logits_NK + noise(3),
    "cut off": lambda logits_NK: np.minimum(logits_NK, 20),
    "answers alone": lambda logits_NK: np.eye(len(NAMES))[logits_NK.argmax(axis=1)] * 9,
}


def noise(deviation: float) -> Logits:
    return np.random.default_rng(1).normal(0, deviation, (1000, len(NAMES))).astype(np.float32)


@pytest.fixture
def forms(tmp_path: Path) -> Forms:
    forms = Forms(tmp_path, engines=EACH)
    forms.logits_NK = noise(1)[::-1] + 25 * np.eye(len(NAMES), dtype=np.float32)[labels_of(1000)]
    return forms


def verdict_of(forms: Forms, form: str, change: Change) -> Verdict:
    for one in forms.cards:
        logits_NK = forms.logits_NK if one != form else change(forms.logits_NK).astype(np.float32)
        forms.plant(one, logits_NK=logits_NK)
    return judge(forms.folder, forms.terms())


@pytest.mark.parametrize("whole", [4, 1000])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_softmax_hides_is_refused_by_the_scores_alone(
    forms: Forms, monkeypatch: pytest.MonkeyPatch, fault: str, whole: int
) -> None:
    monkeypatch.setattr(kept_scores, "WHOLE", whole)
    monkeypatch.setattr(kept_scores, "HIGHEST", 3)
    verdict = verdict_of(forms, EACH[0], FAULTS[fault])
    failed = {row.metric for row in verdict.criteria if row.judgement == "fail"}
    assert {"logit_difference"} <= failed <= {"logit_difference", "class_logit_difference"}
    assert verdict.refused is not None and "(gate.max_logit_difference)" in verdict.refused


@pytest.mark.parametrize("form", EACH)
@pytest.mark.parametrize("fault", ["halved", "doubled", "answers alone"])
def test_a_scale_that_was_lost_is_refused_in_any_precision(forms: Forms, form: str, fault: str) -> None:
    assert str(verdict_of(forms, form, FAULTS[fault]).refused).startswith(f"{form}: logit_difference")


@pytest.mark.parametrize("form", EACH)
def test_a_form_passes_that_rounds_by_half_of_what_its_precision_may(forms: Forms, form: str) -> None:
    spread = float((forms.logits_NK - forms.logits_NK.mean(axis=1, keepdims=True)).std())
    rounded = noise(spread * ROUNDING[forms.cards[form].precision] / 2)
    assert verdict_of(forms, form, lambda logits_NK: logits_NK + rounded).judgement == "pass"


def test_scores_that_are_all_higher_are_the_same(forms: Forms) -> None:
    """A common shift changes neither the softmax nor any comparison between the scores of an image."""
    assert verdict_of(forms, EACH[0], lambda logits_NK: logits_NK + 100).judgement == "pass"


@pytest.mark.parametrize("times", [200, 1000])
def test_one_image_of_very_large_scores_hides_nothing_of_the_others(forms: Forms, times: float) -> None:
    forms.logits_NK[7] *= np.float32(times)
    verdict = verdict_of(forms, EACH[0], FAULTS["noise"])
    assert str(verdict.refused).startswith(f"{EACH[0]}: logit_difference")
    assert verdict.judgement == "fail"


def test_one_image_gone_astray_is_not_shown_for_others_and_does_not_pass(forms: Forms) -> None:
    def astray(logits_NK: Logits) -> Logits:
        return np.where(np.arange(1000)[:, None] == 7, logits_NK * 1000, logits_NK)

    verdict = verdict_of(forms, EACH[0], astray)
    assert verdict.judgement == "inconclusive"
    assert "exceeds, though not shown for other images, 1 (gate.max_logit_difference)" in str(verdict.refused)
