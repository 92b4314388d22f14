"""AUGMENTATIONS of a batch of uint8 images: each is a pure function of (images, seed, epoch, positions).

Letters: N images, H and W pixels, C = 3 channels (RGB).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steps.images.dataset import Images
from steps.images.draws import Positions, uniforms

Shifts = npt.NDArray[np.int64]
Uniforms = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch; an image's numbers depend only on seed, epoch and its position."""

    seed: int
    epoch: int
    positions_N: Positions

    def uniforms(self, purpose: str) -> Uniforms:
        """Return one number in [0, 1) for each image; different purposes give independent numbers."""
        return uniforms(self.seed, self.epoch, purpose, self.positions_N)


Augmentation = Callable[[Images, Draws], Images]  # images_NHWC_u8 -> new images_NHWC_u8


@dataclass(frozen=True)
class Shift:
    """Move each image by up to `pixels` along its height and its width; zeros move in."""

    pixels: int

    def __call__(self, images_NHWC_u8: Images, draws: Draws) -> Images:
        """Return the moved images; each whole number from -pixels to pixels has the same probability."""
        if not self.pixels:
            return images_NHWC_u8
        rows_N, columns_N = (
            (draws.uniforms(purpose) * (2 * self.pixels + 1)).astype(np.int64) - self.pixels
            for purpose in ("shift_rows", "shift_columns")
        )
        return shifted(images_NHWC_u8, rows_N, columns_N)


@dataclass(frozen=True)
class Flip:
    """Mirror each image left to right with this probability."""

    probability: float

    def __call__(self, images_NHWC_u8: Images, draws: Draws) -> Images:
        """Return the images; some are mirrored."""
        if not self.probability:
            return images_NHWC_u8
        return mirrored(images_NHWC_u8, draws.uniforms("flip") < self.probability)


# Training applies the augmentations in this order.
AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {"shift": Shift, "flip": Flip}


def shifted(images_NHWC_u8: Images, rows_N: Shifts, columns_N: Shifts) -> Images:
    """Return each image moved down by its `rows` and right by its `columns`; new pixels are zero."""
    moved_NHWC_u8 = np.zeros_like(images_NHWC_u8)
    height, width = images_NHWC_u8.shape[1:3]
    # Slices copy whole rows of pixels, which is faster than one fancy index over the batch.
    for number, (down, right) in enumerate(zip(rows_N.tolist(), columns_N.tolist(), strict=True)):
        moved_NHWC_u8[number, max(0, down) : height + down, max(0, right) : width + right] = images_NHWC_u8[
            number, max(0, -down) : max(0, height - down), max(0, -right) : max(0, width - right)
        ]
    return moved_NHWC_u8


def mirrored(images_NHWC_u8: Images, chosen_N: npt.NDArray[np.bool_]) -> Images:
    """Return the images, with the chosen images mirrored left to right."""
    turned_NHWC_u8 = images_NHWC_u8.copy()
    turned_NHWC_u8[chosen_N] = images_NHWC_u8[chosen_N, :, ::-1]
    return turned_NHWC_u8
