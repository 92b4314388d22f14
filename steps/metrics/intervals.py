"""Confidence intervals of drops, shares and means, and how many test images would decide.

Two classifiers see the same images. `lost` counts the images that only the reference gets right. `gained` counts
the images that only the tested form gets right. The drop of accuracy is (lost - gained) / images.
All arguments may be arrays of one shape, with one entry for each class.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, stdtrit

from steps.metrics.paired import largest_exact_drop, rejects, score_deviation

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
HALVINGS = 60  # of an interval no longer than 2: below the resolution of a float64
MOST_IMAGES = 1e9
EXACT_UP_TO = 5000  # images; above, the error rate of the score interval is wrong by less than 1 % of itself
MORE = 1.01  # the factor between two trials of a number of images
TINY = 1e-15  # replaces a count of 0 where 0 is not allowed


def largest_drop(
    lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, confidence: npt.ArrayLike
) -> Floats:
    """Return the upper end of the one-sided interval of the true drop at `confidence`.

    The end is exact up to EXACT_UP_TO images: a form whose true drop is at a bound passes that bound with a chance
    of at most 1 - confidence, whatever its rate of disagreement is (paired.py). With no disagreement in n images
    the end is 1 - (1 - confidence)^(1 / n). Beyond EXACT_UP_TO images it is the end of Tango's score interval.
    """
    tables = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in (lost, gained, images, confidence)))
    score_ends = np.asarray(largest_score_drop(*tables))
    ends = [
        _largest(table, start)
        for table, start in zip(
            zip(*(values.ravel().tolist() for values in tables), strict=True),
            score_ends.ravel().tolist(),
            strict=True,
        )
    ]
    return np.array(ends, np.float64).reshape(score_ends.shape)


def _largest(table: tuple[float, float, float, float], start: float) -> float:
    lost, gained, images, confidence = table
    if images > EXACT_UP_TO and (lost or gained):
        return start
    return largest_exact_drop(round(lost), round(gained), round(images), confidence, start)


def stays_within(
    lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, bound: float, confidence: npt.ArrayLike
) -> Bools:
    """Return where the true drop is shown to stay within `bound`: `largest_drop(...) <= bound`, at less cost."""
    tables = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in (lost, gained, images, confidence)))
    shown = [_stays(table, bound) for table in zip(*(values.ravel().tolist() for values in tables), strict=True)]
    return np.array(shown, np.bool_).reshape(tables[0].shape)


def _stays(table: tuple[float, float, float, float], bound: float) -> bool:
    lost, gained, images, confidence = table
    if images > EXACT_UP_TO:
        return bool(_largest(table, float(largest_score_drop(*table))) <= bound)
    return rejects(round(lost), round(gained), round(images), bound, 1 - confidence)


def goes_beyond(
    lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, bound: float, confidence: npt.ArrayLike
) -> Bools:
    """Return where the true drop is shown to exceed `bound`: `least_drop(...) > bound`, at less cost."""
    return stays_within(gained, lost, images, -bound, confidence)


def largest_score_drop(
    lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, confidence: npt.ArrayLike
) -> Floats:
    """Return the upper end of the one-sided score interval of Tango (1998), Statistics in Medicine 17:891-908.

    The end is the largest drop that the score test of eq. 24, with the restricted estimate of eq. 25, does not
    reject. With no disagreement in n images the end is z^2 / (n + z^2).
    """
    b, c, n = np.broadcast_arrays(*(np.asarray(count, np.float64) for count in (lost, gained, images)))
    z = _quantile(confidence)
    low, high = (b - c) / n, np.ones(n.shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rejected = n * middle - (b - c) > z * score_deviation(b, c, n, middle)
        low, high = np.where(rejected, low, middle), np.where(rejected, middle, high)
    return high


def least_drop(
    lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, confidence: npt.ArrayLike
) -> Floats:
    """Return the lower end of the one-sided interval of the true drop at `confidence`."""
    return -largest_drop(gained, lost, images, confidence)


def least_share(successes: npt.ArrayLike, images: npt.ArrayLike, confidence: npt.ArrayLike) -> Floats:
    """Return the lower end of the exact one-sided interval of a share (Clopper and Pearson 1934)."""
    s, n, level = (np.asarray(value, np.float64) for value in (successes, images, confidence))
    least: Floats = np.where(s > 0, betaincinv(np.maximum(s, TINY), n - s + 1, 1 - level), 0.0)
    return least


def largest_share(successes: npt.ArrayLike, images: npt.ArrayLike, confidence: npt.ArrayLike) -> Floats:
    """Return the upper end of the exact one-sided interval of a share."""
    return 1 - least_share(np.asarray(images) - np.asarray(successes), images, confidence)


def falls_short(successes: npt.ArrayLike, images: npt.ArrayLike, floor: float, confidence: npt.ArrayLike) -> Bools:
    """Return where a share is shown to be below `floor`."""
    short: Bools = largest_share(successes, images, confidence) < floor
    return short


def least_mean(values_N: Floats, confidence: float) -> float:
    """Return the lower end of the one-sided interval of a mean, by Student's t."""
    images = len(values_N)
    if images < 2:
        return -math.inf
    return float(_least(values_N.mean(), values_N.std(ddof=1), images, confidence))


def least_means(mean_K: Floats, deviation_K: Floats, images_K: Ints, confidence: float) -> Floats:
    """Return the lower end of the one-sided interval of each class's mean, by Student's t."""
    least_K: Floats = np.full(len(mean_K), -math.inf)
    for images in np.unique(images_K[images_K > 1]).tolist():
        of = images_K == images
        least_K[of] = _least(mean_K[of], deviation_K[of], images, confidence)
    return least_K


def _least(mean: npt.ArrayLike, deviation: npt.ArrayLike, images: int, confidence: float) -> Floats:
    """Return the lower end of the interval of means of `images` values, by Student's t."""
    least: Floats = np.asarray(mean) - stdtrit(images - 1, confidence) * np.asarray(deviation) / math.sqrt(images)
    return least


def images_for_drop(
    lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, limit: float, confidence: npt.ArrayLike
) -> Floats:
    """Return how many test images, at the observed rates of lost and gained images, would decide about `limit`.

    Infinity stands for more than MOST_IMAGES. The score interval gives a first number, and the exact test then
    raises this number.
    """
    b, c, n, level = np.broadcast_arrays(
        *(np.asarray(value, np.float64) for value in (lost, gained, images, confidence))
    )

    def decided(count: Floats) -> Bools:
        counts = b / n * count, c / n * count, count
        within = largest_score_drop(*counts, level) <= limit
        beyond = -largest_score_drop(counts[1], counts[0], count, level) > limit
        either: Bools = within | beyond
        return either

    first = _fewest(decided, n)
    tables = zip(*(values.ravel().tolist() for values in (b / n, c / n, first, level)), strict=True)
    return np.array([_enough(table, limit) for table in tables]).reshape(first.shape)


def _enough(table: tuple[float, float, float, float], limit: float) -> float:
    """Return the number of images at which the exact test decides, starting at the score interval's number."""
    of_lost, of_gained, count, level = table
    if not of_lost and not of_gained and 0 < limit < 1:
        return math.ceil(math.log(1 - level) / math.log1p(-limit))
    while count <= EXACT_UP_TO:
        lost, gained = round(of_lost * count), round(of_gained * count)
        if stays_within(lost, gained, count, limit, level) or goes_beyond(lost, gained, count, limit, level):
            break
        count = math.ceil(count * MORE)
    return count


def images_for_mean(values_N: Floats, limit: float, confidence: float) -> float:
    """Return how many test images, with the same spread, would show that their mean is beyond `limit`."""
    if len(values_N) < 2:
        return math.inf
    return images_to_show(float(values_N.mean()) - limit, float(values_N.std(ddof=1)), confidence)


def images_to_show(beyond: float, deviation: float, confidence: float) -> float:
    """Return how many values with this deviation would show that their mean is above a limit.

    `beyond` is the mean minus the limit. Infinity stands for more than MOST_IMAGES.
    """
    if beyond <= 0 or NormalDist().inv_cdf(confidence) * deviation > beyond * math.sqrt(MOST_IMAGES):
        return math.inf
    ratio = deviation / beyond
    needed = max(math.ceil((NormalDist().inv_cdf(confidence) * ratio) ** 2), 2)
    while needed < (stdtrit(needed - 1, confidence) * ratio) ** 2:
        needed += 1
    return needed


def images_to_judge(
    successes: npt.ArrayLike, images: npt.ArrayLike, floor: float, confidence: npt.ArrayLike
) -> Floats:
    """Return how many test images, with the same share, would show that the share is above or below `floor`."""
    s, n = np.broadcast_arrays(*(np.asarray(count, np.float64) for count in (successes, images)))

    def decided(count: Floats) -> Bools:
        right = s / n * count
        return (least_share(right, count, confidence) >= floor) | falls_short(right, count, floor, confidence)

    return _fewest(decided, n)


def _fewest(decided: Callable[[Floats], Bools], images: Floats) -> Floats:
    """Return the fewest images above `images` that decide; infinity where MOST_IMAGES do not decide."""
    fewest, most = images.copy(), np.full(images.shape, MOST_IMAGES)
    possible = decided(most)
    while (fewest + 1 < most).any():
        middle = np.floor((fewest + most) / 2)
        enough = decided(middle)
        fewest, most = np.where(enough, fewest, middle), np.where(enough, middle, most)
    return np.where(possible, most, np.inf)


def _quantile(confidence: npt.ArrayLike) -> Floats:
    """Return the standard normal quantile of each level; each different level is computed once."""
    levels, which = np.unique(confidence, return_inverse=True)
    quantiles: Floats = np.array([NormalDist().inv_cdf(level) for level in levels.tolist()])[which]
    return quantiles.reshape(np.shape(confidence))
