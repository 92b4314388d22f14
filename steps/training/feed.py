"""The batches of an epoch, from any step on: which images, how augmented, with which labels.

Letters: N images of a batch, H and W pixels, C = 3 channels (RGB). Everything that is drawn is a pure function of
(seed, epoch, position), so a feed that begins at step 7 gives what a whole epoch gives from step 7 on.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from steps.images.augmentation import augment
from steps.images.cache import ImageReader
from steps.images.draws import Positions
from steps.training.samplers import Labels, Sampler

Batch = tuple[Tensor, Tensor]  # images_NHWC_u8, labels_N
DRAWN_AT_ONCE = 64  # batches; drawing a few at a time costs less than one by one


@dataclass(frozen=True)
class Feed:
    """Training batches. `rows_N` says where in `images` the training images stand, `labels_N` what they are."""

    images: ImageReader
    rows_N: Positions
    labels_N: Labels
    sampler: Sampler
    batch_size: int
    seed: int
    shift: int
    flip: float

    @property
    def steps(self) -> int:
        """The steps of an epoch: whole batches only, since a batch norm learns nothing from a batch of one."""
        return max(1, len(self.rows_N) // self.batch_size)

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """Yield the batches of `epoch` from `first_step` on."""
        drawn = list(self._drawn(epoch, first_step))
        images = self.images.read(self.rows_N[chosen_N] for _, chosen_N in drawn)
        for (positions_N, chosen_N), images_NHWC_u8 in zip(drawn, images, strict=True):
            moved = augment(images_NHWC_u8, self.seed, epoch, positions_N, self.shift, self.flip)
            yield torch.from_numpy(moved), torch.from_numpy(self.labels_N[chosen_N])

    def _drawn(self, epoch: int, first_step: int) -> Iterator[tuple[Positions, Positions]]:
        """Yield each batch's positions and the training images that stand there."""
        size = min(self.batch_size, len(self.rows_N))
        for begin in range(first_step, self.steps, DRAWN_AT_ONCE):
            end = min(begin + DRAWN_AT_ONCE, self.steps)
            positions = np.arange(begin * size, end * size)
            chosen = self.sampler.draw(self.seed, epoch, positions)
            yield from zip(positions.reshape(-1, size), chosen.reshape(-1, size), strict=True)
