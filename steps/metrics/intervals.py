"""How much a paired comparison on a test set shows about the true difference.

Two classifiers see the same images. `lost` counts the images that only the reference gets right, `gained` those
that only the tested form gets right; the drop is the difference of their accuracies, (lost - gained) / images.
All arguments may be arrays of one shape: one entry a class, each with a confidence of its own.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from steps.metrics.student import t_quantile

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
HALVINGS = 60  # of an interval no longer than 2: below the resolution of a float64
MOST_IMAGES = 1e9
TINY = 1e-15  # stands for a share of 0 where it is divided by


def largest_drop(
    lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, confidence: npt.ArrayLike
) -> Floats:
    """Return the upper end of the one-sided interval of the true drop at `confidence`.

    The score interval of Tango (1998), Statistics in Medicine 17:891-908: the largest drop that the score test
    of eq. 24, with the restricted estimate of eq. 25, does not reject. It holds its level where a Wald interval
    does not: with no disagreement at all in n images it is z^2 / (n + z^2), not 0.
    """
    b, c, n = np.broadcast_arrays(*(np.asarray(count, np.float64) for count in (lost, gained, images)))
    z = _quantile(confidence)
    low, high = (b - c) / n, np.ones(n.shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rejected = n * middle - (b - c) > z * _deviation(b, c, n, middle)
        low, high = np.where(rejected, low, middle), np.where(rejected, middle, high)
    return high


def least_drop(
    lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, confidence: npt.ArrayLike
) -> Floats:
    """Return the lower end of the one-sided interval of the true drop at `confidence`."""
    return -largest_drop(gained, lost, images, confidence)


def least_share(successes: npt.ArrayLike, images: npt.ArrayLike, confidence: npt.ArrayLike) -> Floats:
    """Return the lower end of the one-sided interval of a share (Wilson 1927)."""
    n, z = np.asarray(images, np.float64), _quantile(confidence)
    share = np.asarray(successes, np.float64) / n
    spread = z * np.sqrt(np.maximum(share * (1 - share) / n + z * z / (4 * n * n), 0))
    least: Floats = (share + z * z / (2 * n) - spread) / (1 + z * z / n)
    return least


def largest_share(successes: npt.ArrayLike, images: npt.ArrayLike, confidence: npt.ArrayLike) -> Floats:
    """Return the upper end of the one-sided interval of a share."""
    return 1 - least_share(np.asarray(images) - np.asarray(successes), images, confidence)


def falls_short(successes: npt.ArrayLike, images: npt.ArrayLike, floor: float, confidence: npt.ArrayLike) -> Bools:
    """Return where a share is shown to be below `floor`, however few the images and however high the confidence.

    There Wilson's interval promises too much: of three images, none right, it says at 1 - 1e-5 that the share is
    below .9, though one of .9 does that in one of 1,000 threes. So the chance of so few at `floor` must be small
    as well; Chernoff's bound of it, exp(-n KL(share, floor)), holds for any number of images.
    """
    n = np.asarray(images, np.float64)
    share = np.asarray(successes, np.float64) / n
    divergence = _times_log(share, floor) + _times_log(1 - share, 1 - floor)
    surely = -n * divergence <= np.log(1 - np.asarray(confidence))
    short: Bools = (largest_share(successes, images, confidence) < floor) & surely
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
    """Return the lower end of the interval of means of so many values, by Student's t."""
    return np.asarray(mean) - t_quantile(confidence, images - 1) * np.asarray(deviation) / math.sqrt(images)


def images_for_drop(
    lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, limit: float, confidence: npt.ArrayLike
) -> Floats:
    """Return how many test images, disagreeing at the observed rates, would show on which side of `limit` the
    drop lies; infinity when it lies so near that no test set of a reasonable size would.
    """
    b, c, n = np.broadcast_arrays(*(np.asarray(count, np.float64) for count in (lost, gained, images)))

    def decided(count: Floats) -> Bools:
        counts = b / n * count, c / n * count, count
        return (largest_drop(*counts, confidence) <= limit) | (least_drop(*counts, confidence) > limit)

    return _fewest(decided, n)


def images_for_mean(values_N: Floats, limit: float, confidence: float) -> float:
    """Return how many test images, spread alike, would show that their mean is beyond `limit`."""
    if len(values_N) < 2:
        return math.inf
    return images_to_show(float(values_N.mean()) - limit, float(values_N.std(ddof=1)), confidence)


def images_to_show(beyond: float, deviation: float, confidence: float) -> float:
    """Return how many values of this deviation would show that their mean, which is `beyond` a limit, is so;
    infinity where MOST_IMAGES would not.
    """
    if beyond <= 0 or NormalDist().inv_cdf(confidence) * deviation > beyond * math.sqrt(MOST_IMAGES):
        return math.inf
    ratio = deviation / beyond
    needed = max(math.ceil((NormalDist().inv_cdf(confidence) * ratio) ** 2), 2)
    while needed < (t_quantile(confidence, needed - 1) * ratio) ** 2:
        needed += 1
    return needed


def images_to_judge(
    successes: npt.ArrayLike, images: npt.ArrayLike, floor: float, confidence: npt.ArrayLike
) -> Floats:
    """Return how many test images, alike in their share, would show on which side of `floor` it lies: above by
    Wilson's interval, below by `falls_short`.
    """
    s, n = np.broadcast_arrays(*(np.asarray(count, np.float64) for count in (successes, images)))

    def decided(count: Floats) -> Bools:
        right = s / n * count
        return (least_share(right, count, confidence) >= floor) | falls_short(right, count, floor, confidence)

    return _fewest(decided, n)


def _fewest(decided: Callable[[Floats], Bools], images: Floats) -> Floats:
    """Return the fewest images above `images` at which it is decided; infinity where MOST_IMAGES do not do."""
    fewest, most = images.copy(), np.full(images.shape, MOST_IMAGES)
    possible = decided(most)
    while (fewest + 1 < most).any():
        middle = np.floor((fewest + most) / 2)
        enough = decided(middle)
        fewest, most = np.where(enough, fewest, middle), np.where(enough, middle, most)
    return np.where(possible, most, np.inf)


def _times_log(share: Floats, other: float) -> Floats:
    """Return x log(x / y), 0 where x is."""
    term: Floats = share * np.log(np.maximum(share, TINY) / max(other, TINY))
    return term


def _quantile(confidence: npt.ArrayLike) -> Floats:
    """Return the standard normal quantile of each level; there are few different ones."""
    levels, which = np.unique(confidence, return_inverse=True)
    quantiles: Floats = np.array([NormalDist().inv_cdf(level) for level in levels.tolist()])[which]
    return quantiles.reshape(np.shape(confidence))


def _deviation(b: Floats, c: Floats, n: Floats, drop: Floats) -> Floats:
    """Return the standard deviation of b - c if `drop` were the true difference.

    The share of images that only the tested form gets right is estimated under that restriction (Tango's eq. 25):
    the larger root of 2n q^2 + (-b - c + (2n - b + c) drop) q - c drop (1 - drop) = 0.
    """
    linear = -b - c + (2 * n - b + c) * drop
    constant = -c * drop * (1 - drop)
    root = np.sqrt(np.maximum(linear * linear - 8 * n * constant, 0))
    only_form = (root - linear) / (4 * n)
    variance: Floats = n * (2 * only_form + drop * (1 - drop))
    return np.sqrt(np.maximum(variance, 0))
