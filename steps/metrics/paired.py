"""The exact test of a paired drop in accuracy. The test keeps its error rate for any number of images n.

Two classifiers see the same n images. `lost` counts the images that only the reference gets right. `gained` counts
the images that only the tested form gets right. The drop is (lost - gained) / n. The asymptotic score interval of
Tango (1998) passes a form at the bound too often: in 6.8 % of test sets instead of 5 %, with 268 images and a
bound of one point.

The test orders tables by Tango's score and takes the p-value as the supremum over the nuisance parameter, the
share of gained images (Barnard 1947; Suissa and Shuster 1991; Sidik 2003 for paired non-inferiority). So a form at
the bound passes with a chance of at most 1 - confidence, whatever the true shares are. Tables without a lost
image come first if their chance, (1 - drop)^n, allows this order: for a form that loses nothing, the binomial then
decides. Letters: Q values of the nuisance parameter, C counts of gained images.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, gammaln

Floats = npt.NDArray[np.float64]
SAME = 1e-9  # a smaller difference of two scores is rounding
STEP = 0.25  # of the grid over the root of the expected gained count, whose standard deviation is about 0.5
MOST_STEPS = 400
ROUNDS, FINE_STEPS = 3, 9  # around each peak of the grid, each round four times finer
CLEARLY = 0.8  # of alpha: a peak of the grid below this value never rises above alpha between the grid points
TAIL = 8.0  # standard deviations of the gained count in the sum; the rest has a chance below 1e-14


def score(lost: Floats, gained: Floats, images: float, drop: float) -> Floats:
    """Return Tango's score of `drop` (1998, eq. 24): a large score speaks against a true drop of this size."""
    beyond = images * drop - (lost - gained)
    deviation = score_deviation(lost, gained, images, drop)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = np.where(deviation > 0, beyond / deviation, np.copysign(np.inf, beyond))
    return np.where((deviation > 0) | (beyond != 0), ratio, 0.0)


def score_deviation(lost: Floats, gained: Floats, images: npt.ArrayLike, drop: npt.ArrayLike) -> Floats:
    """Return the standard deviation of lost - gained if `drop` were the true difference.

    The share of gained images is estimated under that restriction (Tango's eq. 25): the larger root of
    2n q^2 + (-b - c + (2n - b + c) drop) q - c drop (1 - drop) = 0, for b lost and c gained of n images.
    """
    b, c, n = lost, gained, np.asarray(images, np.float64)
    drop = np.asarray(drop, np.float64)
    linear = -b - c + (2 * n - b + c) * drop
    constant = -c * drop * (1 - drop)
    root = np.sqrt(np.maximum(linear * linear - 8 * n * constant, 0))
    only_form = (root - linear) / (4 * n)
    variance: Floats = n * (2 * only_form + drop * (1 - drop))
    return np.sqrt(np.maximum(variance, 0))


@lru_cache(maxsize=65_536)
def rejects(lost: int, gained: int, images: int, drop: float, alpha: float) -> bool:
    """Return whether the table shows, at level `alpha`, that the true drop is below `drop`."""
    none_lost = _chance_of_none_lost(images, drop) <= alpha
    if none_lost and lost == 0:
        return True
    least = float(score(np.array(float(lost)), np.array(float(gained)), images, drop))
    shares_Q = _nuisance(images, drop)
    chance_Q = _chance(images, drop, least, none_lost, shares_Q)
    beside_Q = np.pad(chance_Q, 1, constant_values=-1.0)
    peaks = np.flatnonzero((chance_Q >= beside_Q[:-2]) & (chance_Q >= beside_Q[2:])).tolist()
    return bool(chance_Q.max() <= alpha) and not any(
        _exceeds_near(shares_Q, chance_Q, peak, lambda q_Q: _chance(images, drop, least, none_lost, q_Q), alpha)
        for peak in peaks
    )


def _exceeds_near(
    shares_Q: Floats, chance_Q: Floats, peak: int, chance: Callable[[Floats], Floats], alpha: float
) -> bool:
    """Return whether the chance exceeds `alpha` around the point `peak` of the grid, on ever finer grids."""
    for _ in range(ROUNDS):
        if chance_Q[peak] < CLEARLY * alpha:
            return False
        low, high = shares_Q[max(0, peak - 1)], shares_Q[min(len(shares_Q) - 1, peak + 1)]
        shares_Q = np.linspace(math.sqrt(low), math.sqrt(high), FINE_STEPS) ** 2
        chance_Q = chance(shares_Q)
        if chance_Q.max() > alpha:
            return True
        peak = int(np.argmax(chance_Q))
    return False


def _chance_of_none_lost(images: int, drop: float) -> float:
    """Return the highest chance that no image is lost."""
    return math.exp(images * math.log1p(-drop)) if 0 < drop < 1 else float(drop <= 0)


@lru_cache(maxsize=65_536)
def largest_exact_drop(lost: int, gained: int, images: int, confidence: float, start: float) -> float:
    """Return the largest true drop that the test does not reject, to one part in 10,000 of the interval.

    `start` is the end of the score interval, which is close to the result. With no disagreement the result
    solves (1 - drop)^images = 1 - confidence.
    """
    alpha = 1 - confidence
    if lost == images:
        return 1.0
    if lost == gained == 0:
        return -math.expm1(math.log(alpha) / images)
    observed = (lost - gained) / images
    width = max(start - observed, 1 / images)
    low, high = max(observed, start - width / 16), min(1.0, start + width / 4)
    while high < 1 and _highest_on_grid(lost, gained, images, high, alpha) > alpha:
        low, high = high, min(1.0, high + width)
    while high - low > 1e-4 * width:  # on the grid alone; the loop below corrects the rest
        middle = (low + high) / 2
        below = _highest_on_grid(lost, gained, images, middle, alpha) <= alpha
        low, high = (low, middle) if below else (middle, high)
    while high < 1 and not rejects(lost, gained, images, high, alpha):
        high = min(1.0, high + 1e-3 * width)
    return high


def _highest_on_grid(lost: int, gained: int, images: int, drop: float, alpha: float) -> float:
    none_lost = _chance_of_none_lost(images, drop) <= alpha
    if none_lost and lost == 0:
        return 0.0
    least = float(score(np.array(float(lost)), np.array(float(gained)), images, drop))
    return float(_chance(images, drop, least, none_lost, _nuisance(images, drop)).max())


def _nuisance(images: int, drop: float) -> Floats:
    """Return a grid over the share of gained images with equal steps of its root, where the chance is smooth."""
    low, high = math.sqrt(max(0.0, -drop) * images), math.sqrt((1 - drop) / 2 * images)
    steps = min(MOST_STEPS, int((high - low) / STEP) + 2)
    grid_Q: Floats = np.linspace(low, high, steps) ** 2 / images
    return grid_Q


def _chance(images: int, drop: float, least: float, none_lost: bool, shares_Q: Floats) -> Floats:
    """Return the chance of a score of at least `least`, where `drop` is true, at each share of gained images.

    `none_lost` adds the tables without a lost image, whatever their score.
    """
    spread = TAIL * math.sqrt(images * float(shares_Q.max())) + 12
    gained_C = np.arange(min(images, int(images * float(shares_Q.max()) + spread)) + 1, dtype=np.float64)
    lost_C = np.maximum(_most_lost(images, drop, least, gained_C), 0.0 if none_lost else -1.0)
    ways_C = gammaln(images + 1) - gammaln(gained_C + 1) - gammaln(images - gained_C + 1)
    return np.array([_chance_at(images, drop, share, gained_C, lost_C, ways_C) for share in shares_Q.tolist()])


def _chance_at(images: int, drop: float, share: float, gained_C: Floats, lost_C: Floats, ways_C: Floats) -> float:
    """Sum P(gained) P(lost <= lost_C | gained) over the counts of gained images that have a chance."""
    spread = TAIL * math.sqrt(images * share) + 12
    some = slice(max(0, int(images * share - spread)), int(images * share + spread) + 1)
    c_C, b_C, left_C = gained_C[some], lost_C[some], images - gained_C[some]
    if share <= 0:
        weight_C = (c_C == 0).astype(np.float64)
    elif share >= 1:
        weight_C = (c_C == images).astype(np.float64)
    else:
        weight_C = np.exp(ways_C[some] + c_C * math.log(share) + left_C * math.log1p(-share))
    of_rest = min(max((share + drop) / (1 - share), 0.0), 1.0) if share < 1 else 0.0
    below_C = bdtr(np.clip(b_C, 0, left_C), left_C.astype(np.int64), of_rest)
    return float((weight_C * np.where(b_C < 0, 0.0, np.where(b_C >= left_C, 1.0, below_C))).sum())


def _most_lost(images: int, drop: float, least: float, gained_C: Floats) -> Floats:
    """Return, for each count of gained images, the most lost images with a score of at least `least`, or -1."""
    low_C, high_C = np.full(gained_C.shape, -1.0), images - gained_C + 1
    while (high_C - low_C > 1).any():
        middle_C = np.floor((low_C + high_C) / 2)
        inside_C = (middle_C >= 0) & (middle_C <= images - gained_C)
        enough_C = inside_C & (score(np.maximum(middle_C, 0), gained_C, images, drop) >= least - SAME)
        low_C, high_C = np.where(enough_C, middle_C, low_C), np.where(enough_C, high_C, middle_C)
    return low_C
