"""How close the scores of two forms are, image by image.

Letters: N images, K classes, M stored scores of each image. Scores are float32 logits; people read the softmax.
Where not all scores were stored, a figure lies between two bounds. Otherwise the two bounds are equal.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steps.metrics.omitted_scores import Marks, Shares, largest_part, least_part, likely_part
from steps.metrics.scores import Floats, Logits, Scores


@dataclass(frozen=True)
class Between:
    """Lower and upper bound of one figure, for each image."""

    least_N: Floats
    most_N: Floats


@dataclass(frozen=True)
class Closeness:
    """Each image's largest difference of the softmax over its classes, and its Kullback-Leibler divergence (nats).

    The divergence is that of the form's softmax from the reference's: sum of p (log p - log q), p the reference's.
    `likely_N` is an estimate of the divergence, between its bounds (metrics.omitted_scores).
    """

    difference: Between
    divergence: Between
    likely_N: Floats


def log_softmax(logits_NK: Logits) -> Floats:
    """Return the logarithm of the softmax over classes, in float64; the logits must be finite."""
    wide = logits_NK.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide


def same_class(reference: Scores, form: Scores) -> float:
    """Return the share of images that both forms put into the same class."""
    return float(np.mean(reference.predicted_N == form.predicted_N))


def closeness(reference: Scores, form: Scores) -> Closeness:
    """Return how far the form's scores are from the reference's; both must be finite, of the same images."""
    compare = _whole if reference.classes_NM is None else _bounds
    parts = [compare(*both) for both in zip(reference.parts(), form.parts(), strict=True)]
    least_N, most_N, divergence_least_N, divergence_most_N, likely_N = map(
        np.concatenate, zip(*parts, strict=True)
    )
    return Closeness(Between(least_N, most_N), Between(divergence_least_N, divergence_most_N), likely_N)


Figures = tuple[Floats, Floats, Floats, Floats, Floats]  # least_N and most_N, twice, and likely_N


def _whole(reference: Scores, form: Scores) -> Figures:
    log_p, log_q = (each.logits_NM - each.logsumexp_N[:, None] for each in (reference, form))
    p = np.exp(log_p)
    difference_N = np.abs(p - np.exp(log_q)).max(axis=1)
    # Rounding can make the sum slightly negative; a divergence never is.
    divergence_N = np.maximum((p * (log_p - log_q)).sum(axis=1), 0)
    return difference_N, difference_N, divergence_N, divergence_N, divergence_N


@dataclass(frozen=True)
class _Matched:
    """The stored shares of both forms, and which classes both forms stored."""

    p: Shares
    q: Shares
    log_q_NM: Floats  # log q of p's classes, in p's order; undefined where q did not store the class
    both_NM: Marks  # p's classes that q stored too
    in_p_NM: Marks  # q's classes that p stored too


def _bounds(reference: Scores, form: Scores) -> Figures:
    """Return bounds on both figures where each form stored only its highest scores.

    A class that only one form stored has, in the other form, a score between the lowest of all scores and the
    lowest stored score.
    """
    q = Shares.of(form)
    at_q_NM, both_NM = places(reference, form)
    log_q_NM = np.take_along_axis(q.log_NM, at_q_NM, axis=1)
    matched = _Matched(Shares.of(reference), q, log_q_NM, both_NM, places(form, reference)[1])
    return (*_differences(matched), *_divergences(matched, reference.class_num))


def _differences(matched: _Matched) -> tuple[Floats, Floats]:
    p, q, share_NM, other_NM = matched.p, matched.q, np.exp(matched.p.log_NM), np.exp(matched.q.log_NM)
    gap_NM, only_q_NM = np.abs(share_NM - np.exp(matched.log_q_NM)), ~matched.in_p_NM
    least_N = np.where(matched.both_NM, gap_NM, np.maximum(share_NM - q.most_N[:, None], 0)).max(axis=1)
    most_N = np.where(matched.both_NM, gap_NM, _farther(share_NM, q)).max(axis=1)
    least_N = np.maximum(least_N, np.where(only_q_NM, np.maximum(other_NM - p.most_N[:, None], 0), 0).max(axis=1))
    most_N = np.maximum(most_N, np.where(only_q_NM, _farther(other_NM, p), 0).max(axis=1))
    most_N = np.maximum(most_N, np.maximum(p.most_N - q.least_N, q.most_N - p.least_N))
    return least_N, most_N


def _divergences(matched: _Matched, class_num: int) -> tuple[Floats, Floats, Floats]:
    """Return the least, the largest and the likely divergence of each image.

    The largest takes the worse end of the range for each share that one form did not store. `largest_part` derives
    the largest part of the classes that neither form stored.
    """
    p, q, share_NM, only_p_NM, only_q_NM = (
        matched.p,
        matched.q,
        np.exp(matched.p.log_NM),
        ~matched.both_NM,
        ~matched.in_p_NM,
    )
    exact_N = np.where(matched.both_NM, share_NM * (p.log_NM - matched.log_q_NM), 0).sum(axis=1)
    held_p_N = np.where(only_p_NM, share_NM, 0).sum(axis=1)
    held_q_N = np.where(only_q_NM, np.exp(q.log_NM), 0).sum(axis=1)
    only_p_N, only_q_N = only_p_NM.sum(axis=1), only_q_NM.sum(axis=1)
    least_N = exact_N + least_part(p, q, (only_p_N, only_q_N), held_p_N, held_q_N)
    most_N = exact_N + np.where(only_p_NM, share_NM * (p.log_NM - q.least_log_N[:, None]), 0).sum(axis=1)
    # x (log x - log q) is convex in x, so an end of the range gives the largest value.
    ends = [np.exp(log_N)[:, None] * (log_N[:, None] - q.log_NM) for log_N in (p.least_log_N, p.most_log_N)]
    most_N += np.where(only_q_NM, np.maximum(*ends), 0).sum(axis=1)
    most_N += largest_part(p, q, (only_p_N, only_q_N), class_num - share_NM.shape[1] - only_q_N)
    least_N = np.maximum(least_N, 0)
    most_N = np.maximum(most_N, least_N)
    rest_N = likely_part(p, q, matched.log_q_NM, matched.both_NM, class_num - share_NM.shape[1])
    return least_N, most_N, np.minimum(least_N + rest_N, most_N)


def places(one: Scores, other: Scores) -> tuple[npt.NDArray[np.int64], Marks]:
    """Return the column in `other` of each class that `one` stored, and the mask of the classes found there."""
    assert one.classes_NM is not None and other.classes_NM is not None, "both store only their highest scores"
    rows_N1 = np.arange(len(one.classes_NM), dtype=np.int64)[:, None] * one.class_num
    order_NM = np.argsort(other.classes_NM, axis=1)
    width = order_NM.shape[1]
    known = (np.take_along_axis(other.classes_NM, order_NM, axis=1) + rows_N1).ravel()
    searched_NM = one.classes_NM + rows_N1
    place_NM = np.minimum(np.searchsorted(known, searched_NM), known.size - 1)
    within_NM = (
        place_NM - np.arange(len(rows_N1))[:, None] * width
    )  # a column of another image where the class was not found
    at_NM = np.take_along_axis(order_NM, np.clip(within_NM, 0, width - 1), axis=1)
    return at_NM, known[place_NM] == searched_NM


def _farther(share_NM: Floats, other: Shares) -> Floats:
    """Return the largest possible distance of the shares from the other form's shares of these classes."""
    farther: Floats = np.maximum(share_NM - other.least_N[:, None], other.most_N[:, None] - share_NM)
    return farther
