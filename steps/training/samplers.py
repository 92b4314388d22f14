"""SAMPLERS: which training image stands at which position of an epoch.

Letters: N training images, P positions of an epoch, K classes. A sampler is made once from the labels. A draw
is a pure function of (seed, epoch, position), so resuming needs no state, and no order is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steps.images.draws import Positions, permuted, uniforms

Labels = npt.NDArray[np.int64]
Draw = Callable[[int, int, Positions], Positions]  # (seed, epoch, positions_P) -> numbers of training images


@dataclass(frozen=True)
class Sampler:
    """`draw` gives the images; `probability_K` is how likely a position is to hold each class."""

    draw: Draw
    probability_K: npt.NDArray[np.float64]


def shuffle(labels_N: Labels, class_num: int) -> Sampler:
    """Return a sampler that shows each image exactly once an epoch, in random order."""
    size = len(labels_N)

    def draw(seed: int, epoch: int, positions_P: Positions) -> Positions:
        return permuted(seed, epoch, "order", positions_P, size)

    return Sampler(draw, np.bincount(labels_N, minlength=class_num) / size)


def balanced(labels_N: Labels, class_num: int, power: float) -> Sampler:
    """Return a sampler that draws a class of n images with p ~ n^power, and then any image of the class.

    Power 1 keeps the classes' shares of the data; power 0 gives all classes the same share.

    Source: Mahajan et al. 2018, Kang et al. 2020 (section 3, equation 1); a class without images is never drawn.
    """
    images_K = np.bincount(labels_N, minlength=class_num)
    share_K = np.where(images_K > 0, np.maximum(images_K, 1).astype(np.float64) ** power, 0.0)
    upto_K = np.cumsum(share_K)
    last = int(np.flatnonzero(images_K)[-1])
    order_N = np.argsort(labels_N, kind="stable")
    first_K = np.cumsum(images_K) - images_K

    def draw(seed: int, epoch: int, positions_P: Positions) -> Positions:
        where_P = uniforms(seed, epoch, "class", positions_P) * upto_K[-1]
        class_P = np.minimum(
            np.searchsorted(upto_K, where_P, side="right"), last
        )  # rounding must not pass the last class
        member_P = (uniforms(seed, epoch, "member", positions_P) * images_K[class_P]).astype(np.int64)
        drawn_P: Positions = order_N[first_K[class_P] + member_P]
        return drawn_P

    return Sampler(draw, share_K / upto_K[-1])


SAMPLERS: dict[str, Callable[..., Sampler]] = {"shuffle": shuffle, "balanced": balanced}
