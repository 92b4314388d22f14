"""Two similar classes among many: a test set has few images of them, and exchanging them changes few answers."""

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from steps.metrics import scores as kept_scores
from steps.metrics.logits import LogitDifferences
from steps.metrics.scores import Logits, keep
from steps.params.gate import GateParams
from steps.parity.criteria import PAIRED, comparisons
from steps.parity.evidence import Evidence
from steps.parity.logits import IN_ONE_CLASS, ROUNDING, _images_for_class, class_logit_difference
from steps.parity.pair import Classes, Pair
from steps.reports.evaluate import FormReport
from tests.parity.forms import card_of

IMAGES, CLASSES = 1000, 1000
ONE, LIKE = 7, 8


def pair_of(
    reference_NK: Logits, form_NK: Logits, form: str = "onnxruntime-fp32", classes: Classes = "list"
) -> Pair:
    names = tuple(map(str, range(CLASSES)))
    card = card_of(form, "export").model_copy(update={"class_num": CLASSES, "class_names": names})
    ids = pl.Series(map(str, range(IMAGES)))
    reference, tested = (
        Evidence(FormReport(form=form), card, ids, np.arange(IMAGES) % CLASSES, ids, keep(logits_NK))
        for logits_NK in (reference_NK, form_NK)
    )
    return Pair(reference, tested, 0.95, comparisons(4), classes)


def trained() -> Logits:
    """Return the scores of a network that is right and gives similar scores to two classes."""
    logits_NK = np.random.default_rng(0).normal(0, 1.2, (IMAGES, CLASSES)).astype(np.float32)
    logits_NK[:, LIKE] = 0.8 * logits_NK[:, ONE] + 0.6 * logits_NK[:, LIKE]
    logits_NK[np.arange(IMAGES), np.arange(IMAGES)] += 7
    logits_NK[[ONE, LIKE], [LIKE, ONE]] += 6
    return logits_NK


def exchanged(logits_NK: Logits) -> Logits:
    changed_NK = logits_NK.copy()
    changed_NK[:, [ONE, LIKE]] = logits_NK[:, [LIKE, ONE]]
    return changed_NK


def replaced(logits_NK: Logits) -> Logits:
    changed_NK = logits_NK.copy()
    changed_NK[:, ONE] = logits_NK[:, LIKE] - 0.01
    return changed_NK


@pytest.mark.parametrize("change", [exchanged, replaced])
def test_a_class_that_has_anothers_scores_is_refused_by_its_own_scores_alone(
    change: Callable[[Logits], Logits],
) -> None:
    logits_NK = trained()
    pair = pair_of(logits_NK, change(logits_NK))
    assert not pair.form.right_N[ONE], "an image is lost"
    found = {key: rule(pair, GateParams.model_fields[key].default) for key, rule in PAIRED.items()}
    not_passed = {key: finding for key, finding in found.items() if finding.judgement != "pass"}
    assert list(not_passed) == ["max_class_logit_difference"]
    finding = not_passed["max_class_logit_difference"]
    assert finding.judgement == "fail"
    assert f"(class '{ONE}': " in finding.evidence or f"(class '{LIKE}': " in finding.evidence


@pytest.mark.parametrize("form", ["onnxruntime-fp32", "openvino-fp16", "openvino-bf16", "openvino-int8"])
@pytest.mark.parametrize(("share", "judgement"), [(0.7, "pass"), (1.4, "fail")])
def test_one_class_may_be_rounded_as_its_precision_does(form: str, share: float, judgement: str) -> None:
    logits_NK = trained()
    spread = float((logits_NK - logits_NK.mean(axis=1, keepdims=True)).std())
    rounding = IN_ONE_CLASS * ROUNDING[card_of(form, "export").precision]
    changed_NK = logits_NK.copy()
    changed_NK[:, ONE] += np.random.default_rng(1).normal(0, share * rounding * spread, IMAGES).astype(np.float32)
    assert class_logit_difference(pair_of(logits_NK, changed_NK, form), 1).judgement == judgement


@pytest.mark.parametrize(("classes", "judgement"), [("list", "pass"), ("strict", "inconclusive")])
def test_a_class_that_few_images_kept_is_listed_and_blocks_where_classes_are_strict(
    monkeypatch: pytest.MonkeyPatch, classes: Classes, judgement: str
) -> None:
    monkeypatch.setattr(kept_scores, "WHOLE", CLASSES - 1)
    monkeypatch.setattr(kept_scores, "HIGHEST", 10)
    logits_NK = trained()
    finding = class_logit_difference(pair_of(logits_NK, exchanged(logits_NK), classes=classes), 1)
    assert finding.judgement == judgement
    assert {str(ONE), str(LIKE)} & set(finding.undecided)
    assert ("test images like these" in finding.advice) == (classes == "strict")


def test_where_all_scores_are_kept_a_class_beyond_the_bound_on_these_images_blocks_in_a_list_too() -> None:
    logits_NK = trained()
    moved_NK = logits_NK.copy()
    moved_NK[:, ONE] += np.random.default_rng(1).normal(0, 0.15, IMAGES).astype(np.float32)
    pair = pair_of(logits_NK, moved_NK)
    value = class_logit_difference(pair, 1).value
    near = class_logit_difference(pair, 0.9 * value)
    assert near.judgement == "inconclusive" and near.undecided == (str(ONE),)
    assert f"test images like these {IMAGES} would decide" in near.advice
    nearer = class_logit_difference(pair, (1 - 1e-7) * value)
    assert nearer.judgement == "inconclusive" and "no number of test images" in nearer.advice


def test_no_more_images_of_a_class_are_asked_for_than_anyone_has() -> None:
    one, few = np.ones(1), np.array([10])
    logit_differences = LogitDifferences(np.zeros(1000), one, one, few)
    assert _images_for_class(logit_differences, 0, 1 - 1e-3, 0.95) == pytest.approx(100 * 1.645**2 * 1e6, rel=1e-3)
    assert _images_for_class(logit_differences, 0, 1 - 1e-4, 0.95) == np.inf


def test_of_a_class_that_one_image_kept_more_images_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_scores, "WHOLE", CLASSES - 1)
    monkeypatch.setattr(kept_scores, "HIGHEST", 10)
    logits_NK = trained()
    logits_NK[np.arange(IMAGES) != 20, 20] = -5
    changed_NK = logits_NK.copy()
    changed_NK[20, 20] -= 6
    finding = class_logit_difference(pair_of(logits_NK, changed_NK, classes="strict"), 1)
    assert finding.judgement == "inconclusive" and "(class '20': " in finding.evidence
    assert f"about {2 * IMAGES} test images like these {IMAGES} would decide" in finding.advice


def test_a_class_that_many_images_kept_fails_though_not_all_scores_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_scores, "WHOLE", CLASSES - 1)
    monkeypatch.setattr(kept_scores, "HIGHEST", 200)
    logits_NK = trained()
    assert class_logit_difference(pair_of(logits_NK, exchanged(logits_NK)), 1).judgement == "fail"
