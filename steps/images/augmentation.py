"""Augmentation of a whole batch, still uint8: what each image gets is a pure function of (seed, epoch, position).

Letters: N images, H and W pixels, C = 3 channels (RGB).
"""

import numpy as np
import numpy.typing as npt

from steps.images.dataset import Images
from steps.images.draws import Positions, uniforms

Shifts = npt.NDArray[np.int64]


def augment(
    images_NHWC_u8: Images, seed: int, epoch: int, positions_N: Positions, shift: int, flip: float
) -> Images:
    """Return the images moved by up to `shift` pixels each way (zeros move in), mirrored with chance `flip`."""
    if shift:
        rows_N = _shifts(uniforms(seed, epoch, "shift_rows", positions_N), shift)
        columns_N = _shifts(uniforms(seed, epoch, "shift_columns", positions_N), shift)
        images_NHWC_u8 = shifted(images_NHWC_u8, rows_N, columns_N)
    if flip:
        images_NHWC_u8 = mirrored(images_NHWC_u8, uniforms(seed, epoch, "flip", positions_N) < flip)
    return images_NHWC_u8


def shifted(images_NHWC_u8: Images, rows_N: Shifts, columns_N: Shifts) -> Images:
    """Return each image moved down by its `rows` and right by its `columns`; what comes in is zero."""
    moved_NHWC_u8 = np.zeros_like(images_NHWC_u8)
    height, width = images_NHWC_u8.shape[1:3]
    # Slices copy whole rows of pixels: faster than one fancy index over the batch.
    for number, (down, right) in enumerate(zip(rows_N.tolist(), columns_N.tolist(), strict=True)):
        moved_NHWC_u8[number, max(0, down) : height + down, max(0, right) : width + right] = images_NHWC_u8[
            number, max(0, -down) : max(0, height - down), max(0, -right) : max(0, width - right)
        ]
    return moved_NHWC_u8


def mirrored(images_NHWC_u8: Images, chosen_N: npt.NDArray[np.bool_]) -> Images:
    """Return the images, the chosen ones mirrored left to right."""
    turned_NHWC_u8 = images_NHWC_u8.copy()
    turned_NHWC_u8[chosen_N] = images_NHWC_u8[chosen_N, :, ::-1]
    return turned_NHWC_u8


def _shifts(uniforms_N: npt.NDArray[np.float64], shift: int) -> Shifts:
    """Return whole numbers from -shift to shift, each as likely."""
    return (uniforms_N * (2 * shift + 1)).astype(np.int64) - shift
