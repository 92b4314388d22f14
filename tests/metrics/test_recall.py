"""Recall: each class counts, a class without images gets no value, and ties are not decided by chance."""

import math

import numpy as np
import pytest

from steps.metrics.recall import macro_recall, predicted, recall_per_class, top1, worst_recall

LABELS = np.array([0, 0, 0, 0, 1, 1, 3])
GUESSED = np.array([0, 0, 0, 1, 1, 0, 3])


def test_top1_is_the_share_of_all_images() -> None:
    assert top1(GUESSED, LABELS) == pytest.approx(5 / 7)


def test_recall_is_per_class_and_unknown_without_images() -> None:
    recall = recall_per_class(GUESSED, LABELS, 5)
    assert recall[[0, 1, 3]].tolist() == [0.75, 0.5, 1.0]
    assert np.isnan(recall[[2, 4]]).all()


def test_macro_recall_counts_each_known_class_once() -> None:
    assert macro_recall(recall_per_class(GUESSED, LABELS, 5)) == pytest.approx(0.75)


def test_worst_recall_names_the_class() -> None:
    assert worst_recall(recall_per_class(GUESSED, LABELS, 5)) == (0.5, 1)


def test_without_images_nothing_is_claimed() -> None:
    none = np.array([], np.int64)
    recall = recall_per_class(none, none, 3)
    assert math.isnan(top1(none, none))
    assert math.isnan(macro_recall(recall))
    assert worst_recall(recall)[1] is None


def test_of_equal_scores_the_lowest_id_is_predicted() -> None:
    assert predicted(np.array([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]], np.float32)).tolist() == [1, 0]
