"""With more classes than stored scores, a form passes only if the unstored scores are shown to be small."""

import functools

import numpy as np
import polars as pl
import pytest

from steps.metrics.scores import Logits, keep
from steps.parity.closeness import agreement, divergence, largest_score_difference, score_difference
from steps.parity.evidence import Evidence
from steps.parity.pair import Classes, Pair, Rule
from steps.reports.card import Card
from steps.reports.evaluate import FormReport
from tests.parity.forms import HOW

IMAGES, CLASSES = 60, 1500


def evidence(logits_NK: Logits) -> Evidence:
    names = tuple(map(str, range(CLASSES)))
    card = Card(
        form="export", arch="tiny", class_num=CLASSES, class_names=names, preprocessing=HOW, files={}, artifact="x"
    )
    ids = pl.Series([str(number) for number in range(len(logits_NK))])
    labels_N = np.arange(len(logits_NK)) % CLASSES
    return Evidence(FormReport(form="export"), card, ids, labels_N, ids, keep(logits_NK))


@functools.cache
def logits_of(sharpness: float) -> Logits:
    random = np.random.default_rng(0)
    logits_NK = random.normal(0, 1, (IMAGES, CLASSES))
    logits_NK[np.arange(IMAGES), np.arange(IMAGES)] += sharpness
    return logits_NK.astype(np.float32)


@pytest.mark.parametrize(("classes", "judgement"), [("list", "pass"), ("strict", "inconclusive")])
@pytest.mark.parametrize("noise", [0, 0.02])
def test_a_form_that_is_the_same_passes_though_the_bound_of_a_flat_softmax_says_little(
    noise: float, classes: Classes, judgement: str
) -> None:
    same = logits_of(2)
    form = (same + np.random.default_rng(1).normal(0, noise, same.shape)).astype(np.float32)
    finding = divergence(Pair(evidence(same), evidence(form), 0.95, classes=classes), 0.02)
    assert (finding.judgement, finding.prefix) == (judgement, "at most ")
    assert finding.value > 0.02 and "likely" in finding.evidence
    assert ("no number of test images would decide" in finding.advice) == (classes == "strict")


def test_a_form_whose_highest_score_is_right_and_whose_rest_is_anything_does_not_pass() -> None:
    """Labels smoothed by .1: other classes share .1 of the softmax, spread by e^.6; true divergence: .036."""
    random = np.random.default_rng(0)

    def drawn() -> Logits:
        logits_NK = random.normal(0, 0.6, (IMAGES, CLASSES))
        logits_NK[np.arange(IMAGES), np.arange(IMAGES)] = -np.inf
        rest_N = np.exp(logits_NK).sum(axis=1)
        logits_NK[np.arange(IMAGES), np.arange(IMAGES)] = np.log(9 * rest_N)
        return logits_NK.astype(np.float32)

    one, other = drawn(), drawn()
    assert divergence(Pair(evidence(one), evidence(one), 0.95), 0.02).judgement == "pass"
    finding = divergence(Pair(evidence(one), evidence(other), 0.95), 0.02)
    assert finding.judgement == "inconclusive"
    assert agreement(Pair(evidence(one), evidence(other), 0.95), 0.99).judgement == "pass"


def test_the_limit_that_the_sentence_names_is_one_that_passes() -> None:
    same = evidence(logits_of(2))
    pair = Pair(same, same, 0.95, classes="strict")
    named = float(divergence(pair, 0.02).advice.split("a limit of ")[1].split()[0])
    assert divergence(pair, named).judgement == "pass"
    assert divergence(pair, 0.9 * named).judgement == "inconclusive"


def test_a_sure_network_passes_and_one_that_shifted_fails_though_not_all_was_kept() -> None:
    sure = evidence(logits_of(20))
    assert divergence(Pair(sure, sure, 0.95), 0.02).judgement == "pass"
    rolled = evidence(np.roll(logits_of(20), 1, axis=1))
    assert divergence(Pair(sure, rolled, 0.95), 0.02).judgement == "fail"


def test_flat_scores_that_differ_fail_by_what_was_kept() -> None:
    pair = Pair(evidence(logits_of(2)), evidence(np.roll(logits_of(2), 700, axis=1)), 0.95)
    assert divergence(pair, 0.02).judgement == "fail"


@pytest.mark.parametrize("rule", [score_difference, largest_score_difference])
def test_a_score_difference_below_what_the_unkept_scores_may_hold_is_undecided(rule: Rule) -> None:
    """The hundredth score of a flat softmax is about 1/600: unstored scores may differ by up to that."""
    same = evidence(logits_of(2))
    assert rule(Pair(same, same, 0.95), 0.01).judgement == "pass"
    finding = rule(Pair(same, same, 0.95), 1e-5)
    assert finding.judgement == "inconclusive" and "scores that were not stored" in finding.advice
