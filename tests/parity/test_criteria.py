"""Each criterion alone: which evidence passes, which fails, and which is inconclusive."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steps.params.gate import GateParams
from steps.parity.accuracy import lowest_recall, recall_drop, top1, top1_drop
from steps.parity.closeness import (
    agreement,
    calibration_increase,
    divergence,
    largest_score_difference,
    score_difference,
)
from steps.parity.criteria import AGAINST_CHAMPION, FLOORS, PAIRED, comparisons
from steps.parity.evidence import read_evidence
from steps.parity.judge import judge
from steps.parity.pair import Classes, Pair, images_advice
from tests.parity.forms import NAMES, Forms, Logits, labels_of


@pytest.fixture
def forms(tmp_path: Path) -> Forms:
    return Forms(tmp_path, engines=("onnxruntime-fp32",))


def pair_of(forms: Forms, logits_NK: Logits, classes: Classes = "list") -> Pair:
    forms.plant("export", logits_NK=logits_NK)
    trained, form = (read_evidence(forms.folder, name) for name in ("train", "export"))
    return Pair(trained, form, 0.95, classes=classes)


def test_every_criterion_has_its_key_of_params() -> None:
    assert set(PAIRED | FLOORS | AGAINST_CHAMPION) < set(GateParams.model_fields)


@pytest.mark.parametrize(
    ("lost", "judgement"), [(0, "pass"), (4, "pass"), (8, "inconclusive"), (13, "inconclusive"), (40, "fail")]
)
def test_a_drop_passes_or_fails_only_when_the_images_show_it(forms: Forms, lost: int, judgement: str) -> None:
    assert top1_drop(pair_of(forms, forms.with_lost(lost)), 0.01).judgement == judgement


def test_an_undecided_drop_is_told_what_would_decide_on_either_side_of_the_limit(forms: Forms) -> None:
    below = top1_drop(pair_of(forms, forms.with_lost(8)), 0.01).advice
    above = top1_drop(pair_of(forms, forms.with_lost(13)), 0.01).advice
    needed = [int("".join(filter(str.isdigit, advice.split("test")[0]))) for advice in (below, above)]
    assert all(1000 < count < 10_000 for count in needed)


def test_the_more_is_compared_at_once_the_more_a_failure_must_show(forms: Forms) -> None:
    pair = pair_of(forms, forms.with_lost(18))
    assert top1_drop(pair, 0.01).judgement == "fail"
    assert top1_drop(Pair(pair.reference, pair.form, 0.95, sharing=50), 0.01).judgement == "inconclusive"


def test_every_criterion_of_every_form_shares_the_error_of_failing() -> None:
    per_form = len(PAIRED | FLOORS)
    assert comparisons(3) - comparisons(2) == per_form + len(AGAINST_CHAMPION)
    assert comparisons(1) == per_form + 1 + len(FLOORS)  # fuse alone is not a release


def test_only_the_class_that_drops_is_named(forms: Forms) -> None:
    finding = recall_drop(pair_of(forms, forms.with_lost(60, of_class=2)), 0.05)
    assert (finding.judgement, finding.undecided) == ("fail", ())
    assert f"class '{NAMES[2]}' of 200 images" in finding.evidence
    assert finding.value == pytest.approx(0.3)


def test_a_class_without_test_images_is_not_judged(forms: Forms) -> None:
    labels_N = labels_of(forms.images) % 4
    for form in ("train", "export"):
        forms.plant(form, labels_N=labels_N)
    pair = Pair(read_evidence(forms.folder, "train"), read_evidence(forms.folder, "export"), 0.95)
    assert recall_drop(pair, 0.05).judgement == "pass"


@pytest.mark.parametrize(("lost", "judgement"), [(10, "pass"), (11, "inconclusive"), (30, "fail")])
def test_agreement_counts_images_and_fails_where_others_are_shown_to_disagree(
    forms: Forms, lost: int, judgement: str
) -> None:
    finding = agreement(pair_of(forms, forms.with_lost(lost)), 0.99)
    assert (finding.judgement, finding.value) == (judgement, 1 - lost / 1000)


@pytest.mark.parametrize(("lost", "judgement"), [(9, "pass"), (12, "inconclusive"), (30, "fail")])
def test_one_image_in_a_hundred_may_differ_in_score_and_the_largest_is_told(
    forms: Forms, lost: int, judgement: str
) -> None:
    finding = score_difference(pair_of(forms, forms.with_lost(lost)), 0.05)
    assert finding.judgement == judgement
    assert "the largest 0.9" in finding.evidence


@pytest.mark.parametrize("images", [5, 10, 20, 50])
def test_one_image_of_a_few_that_falls_the_other_way_fails_no_criterion_of_shares(
    tmp_path: Path, images: int
) -> None:
    """At agreement .99, one of five images differs in one of 20 such test sets: no failure at level .0016."""
    few = Forms(tmp_path / "few", engines=(), images=images)
    pair = replace(pair_of(few, few.with_lost(1)), sharing=30)
    assert {rule(pair, bound).judgement for rule, bound in ((agreement, 0.99), (score_difference, 0.05))} == {
        "inconclusive"
    }
    right = float(pair.form.right_N.mean())
    assert top1(pair, right + 0.5 / images).judgement == "inconclusive"


def test_one_image_with_another_answer_altogether_fails_whatever_the_averages_say(forms: Forms) -> None:
    one = pair_of(forms, forms.with_lost(1))
    assert largest_score_difference(one, 0.9).judgement == "fail"
    assert "image '000000.png'" in largest_score_difference(one, 0.9).evidence
    found = {key: rule(one, GateParams.model_fields[key].default).judgement for key, rule in PAIRED.items()}
    assert {key: judgement for key, judgement in found.items() if judgement != "pass"} == {
        "max_largest_score_difference": "fail", "max_logit_difference": "inconclusive",
    }  # fmt: skip


@pytest.mark.parametrize(("lost", "judgement"), [(2, "pass"), (4, "inconclusive"), (40, "fail")])
def test_a_divergence_fails_where_more_than_a_few_odd_images_make_it(
    forms: Forms, lost: int, judgement: str
) -> None:
    finding = divergence(pair_of(forms, forms.with_lost(lost)), 0.02)
    assert finding.judgement == judgement
    assert ("test images like these" in finding.advice) == (judgement == "inconclusive")


def test_a_form_that_is_right_less_often_than_it_says_fails_though_its_classes_agree(forms: Forms) -> None:
    flat = pair_of(forms, forms.logits_NK * np.float32(0.4))
    assert agreement(flat, 0.99).value == 1
    assert calibration_increase(flat, 0.02).judgement == "fail"
    assert divergence(flat, 0.02).judgement == "fail"
    assert calibration_increase(pair_of(forms, forms.logits_NK), 0.02).value == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("floor", "judgement"), [(0, "pass"), (0.9, "pass"), (0.95, "inconclusive"), (0.99, "fail")]
)
def test_a_floor_of_top1_must_be_shown_to_be_reached(forms: Forms, floor: float, judgement: str) -> None:
    assert top1(pair_of(forms, forms.logits_NK), floor).judgement == judgement


@pytest.mark.parametrize(("floor", "judgement"), [(0, "pass"), (0.8, "pass"), (0.96, "inconclusive"), (1, "fail")])
def test_the_worst_recall_must_reach_its_floor(forms: Forms, floor: float, judgement: str) -> None:
    assert lowest_recall(pair_of(forms, forms.logits_NK), floor).judgement == judgement


def test_honest_lines_are_never_failed(tmp_path: Path) -> None:
    """Different seeds of the arithmetic noise, and a few near ties that fall the other way."""
    for seed in range(20):
        forms = Forms(tmp_path / str(seed), engines=(), images=1000)
        draw = np.random.default_rng(seed)
        for form in ("fuse", "export"):
            noise = draw.normal(0, 0.02, forms.logits_NK.shape).astype(np.float32)
            forms.plant(form, logits_NK=forms.logits_NK + noise)
        assert judge(forms.folder, forms.terms()).judgement == "pass"


@pytest.mark.parametrize(
    ("needed", "images", "advice"),
    [
        (299.0, 60, "; about 299 test images like these 60 would decide"),
        (276_931.0, 1000, "; the form is at the limit, and more test images will hardly decide"),
        (25_000.0, 20_000, "; about 25000 test images like these 20000 would decide"),
        (math.inf, 60, "; no number of test images would decide"),
    ],
)
def test_a_number_of_images_that_nobody_would_collect_is_not_asked_for(
    needed: float, images: int, advice: str
) -> None:
    assert images_advice(needed, images) == advice
