"""What the scores that were not kept may be, and how far they can part two forms.

Letters: N images, M scores that are kept of each image, K classes. Shares are those of the softmax.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steps.metrics.scores import Floats, Scores

ROUNDING = 1e-12  # of a sum of shares in float64, with room
ALIKE = (0.05, 0.25)  # of what was kept, the highest first
Counts = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shares:
    """The softmax of the scores that were kept, as logarithms, and its range in classes that were not."""

    log_NM: Floats
    least_log_N: Floats
    most_log_N: Floats
    outside_N: Floats  # what all the classes that were not kept have together

    @classmethod
    def of(cls, scores: Scores) -> "Shares":
        """Return the shares; the scores must be finite."""
        log_NM = scores.logits_NM - scores.logsumexp_N[:, None]
        least_N = scores.lowest_N - scores.logsumexp_N
        outside_N = np.maximum(1 - np.exp(log_NM).sum(axis=1), 0)
        most_N = np.minimum(log_NM[:, -1], np.log(outside_N + ROUNDING))  # one class has no more than all of them
        return cls(log_NM, least_N, np.maximum(most_N, least_N), outside_N)

    @property
    def least_N(self) -> Floats:
        """Return the least share of a class that was not kept."""
        least_N: Floats = np.exp(self.least_log_N)
        return least_N

    @property
    def most_N(self) -> Floats:
        """Return the largest share of a class that was not kept."""
        most_N: Floats = np.exp(self.most_log_N)
        return most_N


def largest_part(p: Shares, q: Shares, only_N: tuple[Counts, Counts], neither_N: Counts) -> Floats:
    """Return the most that the n classes which neither form kept can add to sum p (log p - log q), in nats.

    There p lies in [a, b] and q in [c, d], the ranges of `Shares`; let p = a + (b - a) x and q = c + (d - c) y.
    The term g(p, q) = p log p - p log q is convex in p and in q, so that it is at most what the four corners give:
    g <= (1-x)(1-y) g(a,c) + x(1-y) g(b,c) + (1-x)y g(a,d) + xy g(b,d). In the sum over the classes, sum x and
    sum y are known, as p and q sum up to what the kept ones leave; sum xy has the factor
    g(b,d) - g(b,c) - g(a,d) + g(a,c) = -(b - a) log(d / c) <= 0, so that the most is where it is least:
    max(0, sum x + sum y - n). With both forms' kept classes the same this is attained, but for one class whose x
    or y is no whole number: no tighter bound follows from what was kept.

    Where they are not the same, classes that only one form kept take some of what the other has left: at least a
    and at most b each. Of q that leaves here the least that it can; of p what gives most.
    """
    (only_p_N, only_q_N), a_N, b_N, c_N, d_N = only_N, p.least_N, p.most_N, q.least_N, q.most_N
    gap_N = q.most_log_N - q.least_log_N
    low_N, high_N = a_N * (p.least_log_N - q.least_log_N), b_N * (p.most_log_N - q.least_log_N)
    y_N = _ends(q.outside_N - ROUNDING - only_p_N * d_N, c_N, d_N, neither_N)
    x_most_N = _ends(p.outside_N + ROUNDING - only_q_N * a_N, a_N, b_N, neither_N)
    x_least_N = _ends(p.outside_N - ROUNDING - only_q_N * b_N, a_N, b_N, neither_N)

    def of(x_N: Floats) -> Floats:
        both_N = np.maximum(x_N + y_N - neither_N, 0)
        part_N: Floats = (
            neither_N * low_N + x_N * (high_N - low_N) - y_N * a_N * gap_N - both_N * (b_N - a_N) * gap_N
        )
        return part_N

    bend_N = np.clip(neither_N - y_N, x_least_N, x_most_N)  # between the bends it is linear in x
    return np.maximum(np.maximum(of(x_least_N), of(x_most_N)), of(bend_N))


def _ends(sum_N: Floats, least_N: Floats, most_N: Floats, classes_N: Counts) -> Floats:
    """Return how many of the classes are at their most, where all others are at their least, for this sum."""
    width_N = most_N - least_N
    ends_N: Floats = np.zeros_like(width_N)
    np.divide(sum_N - classes_N * least_N, width_N, out=ends_N, where=width_N > 0)
    return np.clip(ends_N, 0, classes_N)


def least_part(p: Shares, q: Shares, only_N: tuple[Counts, Counts], held_p_N: Floats, held_q_N: Floats) -> Floats:
    """Return the least that the classes which not both forms kept can add to sum p (log p - log q), in nats.

    `held_p_N` is what p has in the classes that only it kept, as `held_q_N` of q. Classes taken as one add no more
    than one by one (the data processing inequality). Taken as two, those that only p kept and all the others, they
    add least where q parts its own like p: or, where the classes that it did not keep cannot hold so much, as
    nearly so as they can. The same with those that only q kept; the larger of the two holds.
    """
    (only_p_N, only_q_N), rest_p_N, rest_q_N = only_N, held_p_N + p.outside_N, held_q_N + q.outside_N
    of_q_N = np.minimum(only_p_N * q.most_N, rest_q_N * _share(held_p_N, rest_p_N))
    of_p_N = np.minimum(only_q_N * p.most_N, rest_p_N * _share(held_q_N, rest_q_N))
    return np.maximum(
        _term(held_p_N, of_q_N) + _term(p.outside_N, rest_q_N - of_q_N),
        _term(of_p_N, held_q_N) + _term(rest_p_N - of_p_N, q.outside_N),
    )


def likely_part(p: Shares, q: Shares, log_q_NM: Floats, both_NM: Marks, unkept: int) -> Floats:
    """Return what the classes that p did not keep likely add to sum p (log p - log q), in nats: a guess, no bound.

    They are taken to differ as those do that p kept below its highest few and well above its last (ALIKE), which a
    form that is much the same keeps too: a share of them adds (log p - log q)^2 / 2, the second order of the
    divergence. Where q did not keep such a class, it is taken to have there what the classes that q did not keep
    have on average: a rest that has nothing to do with p's is like that.
    """
    kept = p.log_NM.shape[1]
    alike = slice(int(ALIKE[0] * kept), max(int(ALIKE[1] * kept), 1))
    typical_N = np.log((q.outside_N + ROUNDING) / unkept)
    log_NM = p.log_NM[:, alike]
    other_NM = np.where(both_NM[:, alike], log_q_NM[:, alike], typical_N[:, None])
    share_NM = np.exp(log_NM)
    square_N = (share_NM * (log_NM - other_NM) ** 2).sum(axis=1) / np.maximum(share_NM.sum(axis=1), ROUNDING)
    part_N: Floats = p.outside_N * square_N / 2
    return part_N


def _share(part_N: Floats, whole_N: Floats) -> Floats:
    share_N: Floats = part_N / np.maximum(whole_N, ROUNDING)
    return share_N


def _term(share_N: Floats, other_N: Floats) -> Floats:
    """Return x (log x - log y), 0 where x is; the least that it is where y is lost in rounding."""
    term_N: Floats = share_N * (np.log(np.maximum(share_N, 1e-300)) - np.log(other_N + ROUNDING))
    return term_N
