"""Classes with few test images: listed, or blocking if classes are strict, with the number that would decide."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta

from steps.parity.accuracy import lowest_recall, recall_drop
from steps.parity.closeness import class_agreement
from steps.parity.evidence import read_evidence
from steps.parity.pair import Classes, Finding, Pair, Rule
from tests.parity.forms import NAMES, Forms, labels_of


@pytest.fixture
def forms(tmp_path: Path) -> Forms:
    return Forms(tmp_path, engines=("onnxruntime-fp32",))


def finding_of(
    folder: Path, rule: Rule, bound: float, wrong: int, of: int, classes: Classes = "strict"
) -> Finding:
    """Judge a form that misses `wrong` images of class 'cow' and no others; each class has `of` images."""
    forms = Forms(folder, engines=(), images=5 * of)
    right_NK = (np.eye(5)[labels_of(5 * of)] * 9).astype(np.float32)
    missed = np.flatnonzero(labels_of(5 * of) == 2)[:wrong]
    form_NK = right_NK.copy()
    form_NK[missed] = np.roll(form_NK[missed], 1, axis=1)
    forms.plant("train", logits_NK=right_NK)
    forms.plant("export", logits_NK=form_NK)
    trained, form = (read_evidence(forms.folder, name) for name in ("train", "export"))
    return rule(Pair(trained, form, 0.95, sharing=40, classes=classes), bound)


def needed_by(finding: Finding) -> tuple[int, str]:
    found = re.match(r"; about (\d+) test images of class '(\w+)' \(now ", finding.advice)
    assert found is not None, finding.advice
    return int(found[1]), found[2]


@pytest.mark.parametrize(
    ("rule", "bound", "wrong", "of"),
    [
        (recall_drop, 0.05, 1, 50),  # within the bound: shown at 95 %
        (recall_drop, 0.05, 4, 50),  # beyond the bound: shown at the shared level
        (lowest_recall, 0.9, 4, 50),
        (lowest_recall, 0.9, 8, 50),
        (lowest_recall, 0.8, 3, 20),
    ],
)
def test_as_many_images_of_the_class_as_the_sentence_names_decide_and_fewer_do_not(
    tmp_path: Path, rule: Rule, bound: float, wrong: int, of: int
) -> None:
    few = finding_of(tmp_path / "few", rule, bound, wrong, of)
    needed, name = needed_by(few)
    assert (few.judgement, name) == ("inconclusive", "cow")
    times = -(-needed // of)
    enough = finding_of(tmp_path / "enough", rule, bound, wrong * times, of * times)
    fewer = finding_of(tmp_path / "fewer", rule, bound, wrong * (times - 1), of * (times - 1))
    assert "cow" not in enough.undecided and "cow" in (*fewer.undecided, *few.undecided)
    assert enough.judgement == ("pass" if wrong / of < (bound if rule is recall_drop else 1 - bound) else "fail")
    assert fewer.judgement == "inconclusive"


def test_a_class_that_would_pass_is_not_asked_for_the_images_that_failing_it_would_take(tmp_path: Path) -> None:
    """By Clopper and Pearson's interval, counts in proportion; failing's shared level would need over 680."""
    needed, _ = needed_by(finding_of(tmp_path, lowest_recall, 0.9, 3, 50))
    assert beta.ppf(0.05, 0.94 * needed, 0.06 * needed + 1) >= 0.9
    assert beta.ppf(0.05, 0.94 * (needed - 1), 0.06 * (needed - 1) + 1) < 0.9


def test_other_classes_do_not_raise_the_number(tmp_path: Path) -> None:
    """The number depends on the class alone: a test set 20 times as large does not need more of the class."""
    forms = Forms(tmp_path, engines=(), images=1000)
    labels_N = np.where(np.arange(1000) < 50, 2, np.array([0, 1, 3, 4])[np.arange(1000) % 4])
    right_NK = (np.eye(5)[labels_N] * 9).astype(np.float32)
    right_NK[:3] = np.roll(right_NK[:3], 1, axis=1)
    forms.plant("export", logits_NK=right_NK, labels_N=labels_N)
    form = read_evidence(forms.folder, "export")
    alone = needed_by(finding_of(tmp_path / "alone", lowest_recall, 0.9, 3, 50))
    assert needed_by(lowest_recall(Pair(form, form, 0.95, 40, "strict"), 0.9)) == alone


def test_a_floor_that_blocks_by_one_class_is_not_told_of_the_classes_that_are_only_listed(tmp_path: Path) -> None:
    listed = finding_of(tmp_path, lowest_recall, 0.9, 6, 50, classes="list")
    assert listed.judgement == "inconclusive" and len(listed.undecided) == 1
    assert "others" not in listed.advice


def test_undecided_classes_are_listed_and_block_where_they_are_strict(tmp_path: Path) -> None:
    listed, strict = (
        finding_of(tmp_path / classes, recall_drop, 0.05, 6, 200, classes) for classes in ("list", "strict")
    )
    assert (listed.judgement, strict.judgement) == ("pass", "inconclusive")
    assert listed.undecided == strict.undecided == ("cow",)
    assert finding_of(tmp_path / "none", recall_drop, 0.05, 0, 200).judgement == "pass"


@pytest.mark.parametrize(("rule", "bound"), [(recall_drop, 0.05), (lowest_recall, 0.5)])
def test_a_class_without_a_test_image_blocks_where_classes_are_strict(
    forms: Forms, rule: Rule, bound: float
) -> None:
    for form in ("train", "export"):
        forms.plant(form, order=np.flatnonzero(labels_of(forms.images) != 4))
    trained, tested = (read_evidence(forms.folder, name) for name in ("train", "export"))
    finding = rule(Pair(trained, tested, 0.95, classes="strict"), bound)
    assert (finding.judgement, finding.undecided) == ("inconclusive", (NAMES[4],))
    assert finding.advice == "; class 'eel' has no test image"
    assert rule(Pair(trained, tested, 0.95), bound).judgement == "pass"


def moved(folder: Path, count: int, of: int, classes: Classes = "list") -> Finding:
    """Judge a form that moves `count` of the `of` images that the trained form calls 'cow'."""
    return finding_of(folder, class_agreement, 0.95, count, of, classes)


@pytest.mark.parametrize(
    ("count", "of", "judgement"),
    [
        (2, 2, "pass"),
        (3, 3, "fail"),
        (4, 5, "fail"),
        (3, 5, "pass"),
        (6, 10, "fail"),
        (6, 60, "pass"),
        (15, 60, "fail"),
    ],
)
def test_a_class_that_goes_elsewhere_fails_from_a_few_images_on(
    tmp_path: Path, count: int, of: int, judgement: str
) -> None:
    finding = moved(tmp_path, count, of)
    assert finding.judgement == judgement and finding.value == pytest.approx(1 - count / of)
    assert finding.undecided == (("cow",) if judgement == "pass" else ())


def test_an_answer_of_a_small_class_that_falls_the_other_way_is_listed_and_blocks_where_strict(
    tmp_path: Path,
) -> None:
    assert moved(tmp_path / "list", 1, 10).judgement == "pass"
    strict = moved(tmp_path / "strict", 1, 10, "strict")
    assert (strict.judgement, strict.undecided) == ("inconclusive", ("cow",))
    found = re.search(r"about (\d+) test images that train puts there \(now 10\)", strict.advice)
    assert found is not None
    times = -(-int(found[1]) // 10)
    assert moved(tmp_path / "enough", times, 10 * times).judgement == "fail"
    assert moved(tmp_path / "fewer", times - 1, 10 * (times - 1)).judgement == "pass"
    assert moved(tmp_path / "none", 0, 10, "strict").judgement == "pass"


def test_a_class_a_hair_below_is_decided_by_no_number_of_images(tmp_path: Path) -> None:
    hair = finding_of(tmp_path, class_agreement, 0.8 + 1e-9, 4, 20, "strict")
    assert "; no number of test images that train puts there (now 20) would decide" in hair.advice
