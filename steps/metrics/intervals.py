"""How much a paired comparison on a test set shows about the true difference.

Two classifiers see the same images. `lost` counts the images that only the reference gets right, `gained` those
that only the tested form gets right; the drop is the difference of their accuracies, (lost - gained) / images.
All arguments may be arrays of one shape: one entry a class.
"""

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
HALVINGS = 60  # of an interval no longer than 2: below the resolution of a float64
MOST_IMAGES = 10**9


def largest_drop(lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, confidence: float) -> Floats:
    """Return the upper end of the one-sided interval of the true drop at `confidence`.

    The score interval of Tango (1998), Statistics in Medicine 17:891-908: the largest drop that the score test
    of eq. 4, with the restricted estimate of eq. 5, does not reject. It holds its level where a Wald interval
    does not: with no disagreement at all in n images it is z^2 / (n + z^2), not 0.
    """
    b, c, n = np.broadcast_arrays(*(np.asarray(count, np.float64) for count in (lost, gained, images)))
    z = NormalDist().inv_cdf(confidence)
    low, high = (b - c) / n, np.ones(n.shape)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        rejected = n * middle - (b - c) > z * _deviation(b, c, n, middle)
        low, high = np.where(rejected, low, middle), np.where(rejected, middle, high)
    return high


def least_drop(lost: npt.ArrayLike, gained: npt.ArrayLike, images: npt.ArrayLike, confidence: float) -> Floats:
    """Return the lower end of the one-sided interval of the true drop at `confidence`."""
    return -largest_drop(gained, lost, images, confidence)


def least_share(successes: float, images: int, confidence: float) -> float:
    """Return the lower end of the one-sided interval of a share (Wilson 1927)."""
    z = NormalDist().inv_cdf(confidence)
    share = successes / images
    spread = z * np.sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    return float((share + z * z / (2 * images) - spread) / (1 + z * z / images))


def images_to_decide(lost: float, gained: float, images: int, limit: float, confidence: float) -> int | None:
    """Return how many test images, disagreeing at the observed rates, would show on which side of `limit` the
    drop lies; None when it lies so near that no test set of a reasonable size would.
    """
    fewest, most = images, MOST_IMAGES
    if not _decided(lost / images, gained / images, most, limit, confidence):
        return None
    while fewest + 1 < most:
        middle = (fewest + most) // 2
        if _decided(lost / images, gained / images, middle, limit, confidence):
            most = middle
        else:
            fewest = middle
    return most


def _decided(lost_share: float, gained_share: float, images: int, limit: float, confidence: float) -> bool:
    counts = lost_share * images, gained_share * images, images
    return bool(largest_drop(*counts, confidence) <= limit or least_drop(*counts, confidence) > limit)


def _deviation(b: Floats, c: Floats, n: Floats, drop: Floats) -> Floats:
    """Return the standard deviation of b - c if `drop` were the true difference.

    The share of images that only the tested form gets right is estimated under that restriction (Tango's eq. 5):
    the larger root of 2n q^2 + (-b - c + (2n - b + c) drop) q - c drop (1 - drop) = 0.
    """
    linear = -b - c + (2 * n - b + c) * drop
    constant = -c * drop * (1 - drop)
    root = np.sqrt(np.maximum(linear * linear - 8 * n * constant, 0))
    only_form = (root - linear) / (4 * n)
    variance: Floats = n * (2 * only_form + drop * (1 - drop))
    return np.sqrt(np.maximum(variance, 0))
