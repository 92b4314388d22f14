"""The reference must beat chance: it fails if shown not to beat chance; a few images show neither."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from steps.metrics.chance import guessing
from steps.parity.accuracy import above_chance
from steps.parity.evidence import read_evidence
from steps.parity.judge import judge
from steps.parity.pair import Finding, Pair
from tests.parity.forms import NAMES, Forms, Logits, labels_of


def found(
    folder: Path, logits_NK: Logits, labels_N: npt.NDArray[np.int64] | None = None, sharing: int = 40
) -> Finding:
    forms = Forms(folder, engines=(), images=len(logits_NK))
    forms.plant("train", logits_NK=logits_NK, labels_N=labels_N)
    trained = read_evidence(forms.folder, "train")
    guess = guessing(trained.predicted_N, trained.labels_N, trained.card.class_num)
    return above_chance(Pair(trained, trained, 0.95, sharing), guess)


def guessed(images: int, seed: int = 1) -> Logits:
    return np.random.default_rng(seed).normal(0, 1, (images, len(NAMES))).astype(np.float32)


def always(images: int) -> Logits:
    return np.tile(np.array([[5, 0, 0, 0, 0]], np.float32), (images, 1))


@pytest.mark.parametrize("frequent", [0.2, 0.5, 0.8])
def test_a_form_that_says_one_class_always_fails_however_frequent_the_class(
    tmp_path: Path, frequent: float
) -> None:
    labels_N = np.where(np.arange(4000) < frequent * 4000, 0, 1 + np.arange(4000) % 4)
    finding = found(tmp_path, always(4000), labels_N)
    assert (finding.judgement, finding.relation) == ("fail", "does not beat chance,")


def test_a_form_that_guesses_fails_where_the_images_show_it_and_is_undecided_where_they_are_few(
    tmp_path: Path,
) -> None:
    assert found(tmp_path / "many", guessed(3000)).judgement == "fail"
    few = found(tmp_path / "few", guessed(30))
    assert (few.judgement, few.relation) == ("inconclusive", "is not shown to beat chance,")


def test_an_undecided_form_is_decided_with_the_number_of_images_that_it_is_told(tmp_path: Path) -> None:
    right_N = np.arange(20) % 10 < 4  # 40 %, while guessing gets about 20 %
    said_N = np.where(right_N, labels_of(20), (labels_of(20) + 1) % 5)
    logits_NK = np.eye(5, dtype=np.float32)[said_N] * 5
    few = found(tmp_path / "few", logits_NK)
    needed = int("".join(filter(str.isdigit, few.advice.split("test")[0])))
    assert few.judgement == "inconclusive" and 20 < needed < 200
    times = -(-needed // 20)
    assert found(tmp_path / "enough", np.tile(logits_NK, (times, 1))).judgement == "pass"
    assert found(tmp_path / "fewer", np.tile(logits_NK, (times - 1, 1))).judgement == "inconclusive"


def test_a_handful_of_right_answers_shows_nothing_and_fails_nobody(tmp_path: Path) -> None:
    right = (np.eye(5)[labels_of(4)] * 5).astype(np.float32)
    for images in (1, 2, 4):
        assert found(tmp_path / str(images), right[:images]).judgement == "inconclusive"


def test_a_test_set_of_one_class_is_told_to_have_others(tmp_path: Path) -> None:
    finding = found(tmp_path, always(500), np.zeros(500, np.int64))
    assert finding.judgement == "inconclusive" and "add images of other classes" in finding.advice


def test_a_reference_that_is_undecided_blocks_the_release_in_words(tmp_path: Path) -> None:
    forms = Forms(tmp_path, engines=(), images=30)
    forms.plant("train", logits_NK=guessed(30))
    row = judge(forms.folder, forms.terms()).criteria[0]
    assert (row.form, row.metric) == ("train", "top1")
    assert row.judgement == "inconclusive"
    assert (
        "is not shown to beat chance, 0." in row.sentence
        and "test images like these 30 would decide" in row.sentence
    )
