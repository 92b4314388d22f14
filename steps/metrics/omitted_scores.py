"""Bounds on the scores that were not stored, and on how much those scores can change a comparison of two forms.

Letters: N images, M stored scores of each image, K classes. Shares are values of the softmax.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steps.metrics.scores import Floats, Scores

ROUNDING = 1e-12  # of a sum of shares in float64, with room
TYPICAL = (0.05, 0.25)  # ranks of stored scores, as shares of M, the highest first, that stand for the others
Counts = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shares:
    """The log-softmax of the stored scores, and the range of the log-softmax in all other classes."""

    log_NM: Floats
    least_log_N: Floats
    most_log_N: Floats
    outside_N: Floats  # the sum of the shares of all classes that were not stored

    @classmethod
    def of(cls, scores: Scores) -> "Shares":
        """Return the shares; the scores must be finite."""
        log_NM = scores.logits_NM - scores.logsumexp_N[:, None]
        least_N = scores.lowest_N - scores.logsumexp_N
        outside_N = np.maximum(1 - np.exp(log_NM).sum(axis=1), 0)
        most_N = np.minimum(log_NM[:, -1], np.log(outside_N + ROUNDING))  # one share is at most the sum
        return cls(log_NM, least_N, np.maximum(most_N, least_N), outside_N)

    @property
    def least_N(self) -> Floats:
        """Return the lower bound on the share of a class that was not stored."""
        least_N: Floats = np.exp(self.least_log_N)
        return least_N

    @property
    def most_N(self) -> Floats:
        """Return the upper bound on the share of a class that was not stored."""
        most_N: Floats = np.exp(self.most_log_N)
        return most_N


def largest_part(p: Shares, q: Shares, only_N: tuple[Counts, Counts], neither_N: Counts) -> Floats:
    """Return an upper bound on the part of sum p (log p - log q), in nats, of the n classes that no form stored.

    In these classes p lies in [a, b] and q in [c, d], the ranges of `Shares`. Let p = a + (b - a) x and
    q = c + (d - c) y. The term g(p, q) = p log p - p log q is convex in p and in q, so the four corners bound g:
    g <= (1-x)(1-y) g(a,c) + x(1-y) g(b,c) + (1-x)y g(a,d) + xy g(b,d). In the sum over the classes, sum x and
    sum y are known, because the shares of p and of q sum up to 1. The factor of sum xy is
    g(b,d) - g(b,c) - g(a,d) + g(a,c) = -(b - a) log(d / c) <= 0, so the bound uses the least sum xy:
    max(0, sum x + sum y - n). If both forms stored the same classes, this value is attained, except in one class
    whose x or y is between 0 and 1. So the stored scores give no tighter bound.

    If the forms stored different classes, each class that only one form stored takes a share between a and b from
    the rest of the other form. For q the bound uses the least rest, for p the rest that gives the largest part.
    """
    (only_p_N, only_q_N), a_N, b_N, c_N, d_N = only_N, p.least_N, p.most_N, q.least_N, q.most_N
    gap_N = q.most_log_N - q.least_log_N
    low_N, high_N = a_N * (p.least_log_N - q.least_log_N), b_N * (p.most_log_N - q.least_log_N)
    y_N = _ends(q.outside_N - ROUNDING - only_p_N * d_N, c_N, d_N, neither_N)
    x_most_N = _ends(p.outside_N + ROUNDING - only_q_N * a_N, a_N, b_N, neither_N)
    x_least_N = _ends(p.outside_N - ROUNDING - only_q_N * b_N, a_N, b_N, neither_N)

    def part_at(x_N: Floats) -> Floats:
        both_N = np.maximum(x_N + y_N - neither_N, 0)
        part_N: Floats = (
            neither_N * low_N + x_N * (high_N - low_N) - y_N * a_N * gap_N - both_N * (b_N - a_N) * gap_N
        )
        return part_N

    bend_N = np.clip(neither_N - y_N, x_least_N, x_most_N)  # the part is linear in x on both sides of the bend
    return np.maximum(np.maximum(part_at(x_least_N), part_at(x_most_N)), part_at(bend_N))


def _ends(sum_N: Floats, least_N: Floats, most_N: Floats, classes_N: Counts) -> Floats:
    """Return how many classes have the largest share, if all other classes have the least share, for this sum."""
    width_N = most_N - least_N
    ends_N: Floats = np.zeros_like(width_N)
    np.divide(sum_N - classes_N * least_N, width_N, out=ends_N, where=width_N > 0)
    return np.clip(ends_N, 0, classes_N)


def least_part(p: Shares, q: Shares, only_N: tuple[Counts, Counts], held_p_N: Floats, held_q_N: Floats) -> Floats:
    """Return a lower bound on the part of sum p (log p - log q), in nats, of the classes not stored by both forms.

    `held_p_N` is the share of p in the classes that only p stored; `held_q_N` is the same of q. Merging classes
    never increases the divergence (the data processing inequality). The classes are merged into two groups: those
    that only p stored, and all others. The part is least where q divides its share between the groups in p's
    ratio, or as close to p's ratio as its unstored classes allow. The same holds for the classes that only q
    stored. The larger of both bounds is returned.
    """
    (only_p_N, only_q_N), rest_p_N, rest_q_N = only_N, held_p_N + p.outside_N, held_q_N + q.outside_N
    of_q_N = np.minimum(only_p_N * q.most_N, rest_q_N * _share(held_p_N, rest_p_N))
    of_p_N = np.minimum(only_q_N * p.most_N, rest_p_N * _share(held_q_N, rest_q_N))
    return np.maximum(
        _term(held_p_N, of_q_N) + _term(p.outside_N, rest_q_N - of_q_N),
        _term(of_p_N, held_q_N) + _term(rest_p_N - of_p_N, q.outside_N),
    )


def likely_part(p: Shares, q: Shares, log_q_NM: Floats, both_NM: Marks, omitted: int) -> Floats:
    """Return an estimate, no bound, of the part of sum p (log p - log q), in nats, of the classes p did not store.

    The estimate takes the differences of p's stored classes in the ranks TYPICAL: below the highest few, and well
    above the last. A form close to p stores these classes too. Each share adds (log p - log q)^2 / 2, the second
    order of the divergence. Where q did not store such a class, q gets the mean share of all its classes
    that are not stored, as if the rest of q were unrelated to the rest of p.
    """
    stored = p.log_NM.shape[1]
    typical = slice(int(TYPICAL[0] * stored), max(int(TYPICAL[1] * stored), 1))
    mean_log_N = np.log((q.outside_N + ROUNDING) / omitted)
    log_NM = p.log_NM[:, typical]
    other_NM = np.where(both_NM[:, typical], log_q_NM[:, typical], mean_log_N[:, None])
    share_NM = np.exp(log_NM)
    square_N = (share_NM * (log_NM - other_NM) ** 2).sum(axis=1) / np.maximum(share_NM.sum(axis=1), ROUNDING)
    part_N: Floats = p.outside_N * square_N / 2
    return part_N


def _share(part_N: Floats, whole_N: Floats) -> Floats:
    share_N: Floats = part_N / np.maximum(whole_N, ROUNDING)
    return share_N


def _term(share_N: Floats, other_N: Floats) -> Floats:
    """Return x (log x - log y), and 0 where x is 0; ROUNDING keeps the result finite where y is 0."""
    term_N: Floats = share_N * (np.log(np.maximum(share_N, 1e-300)) - np.log(other_N + ROUNDING))
    return term_N
