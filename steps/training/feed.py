"""The batches of an epoch, from any step on: which images, how augmented, with which labels.

Letters: N images of a batch, H and W pixels, C = 3 channels (RGB), P positions of an epoch. Everything that is
drawn is a pure function of (seed, epoch, position), so a feed that begins at step 7 gives what a whole epoch gives
from step 7 on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from steps.images.augmentation import Augmentation, Draws
from steps.images.cache import ImageReader
from steps.images.draws import Positions
from steps.training.batch import Batch
from steps.training.samplers import Labels, Sampler

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
    augmentations: Sequence[Augmentation] = ()

    @property
    def steps(self) -> int:
        """The steps of an epoch, which has as many positions as there are training images.

        Every image is seen, so the batches are as equal as can be, instead of whole ones and a rest that is left
        out. No batch has one image, of which a batch norm learns nothing.
        """
        images = len(self.rows_N)
        return max(1, min(-(-images // self.batch_size), images // 2))

    def batches(self, epoch: int, first_step: int) -> Iterator[Batch]:
        """Yield the batches of `epoch` from `first_step` on."""
        drawn = list(self._drawn(epoch, first_step))
        images = self.images.read(self.rows_N[chosen_N] for _, chosen_N in drawn)
        for (positions_N, chosen_N), images_NHWC_u8 in zip(drawn, images, strict=True):
            draws = Draws(self.seed, epoch, positions_N)
            for augment in self.augmentations:
                images_NHWC_u8 = augment(images_NHWC_u8, draws)
            yield Batch(torch.from_numpy(images_NHWC_u8), torch.from_numpy(self.labels_N[chosen_N]))

    def _drawn(self, epoch: int, first_step: int) -> Iterator[tuple[Positions, Positions]]:
        """Yield each batch's positions and the training images that stand there."""
        ends = np.arange(self.steps + 1) * len(self.rows_N) // self.steps
        for step in range(first_step, self.steps, DRAWN_AT_ONCE):
            bounds = ends[step : step + DRAWN_AT_ONCE + 1]
            chosen_P = self.sampler.draw(self.seed, epoch, np.arange(bounds[0], bounds[-1]))
            for begin, end in pairwise(bounds.tolist()):
                yield np.arange(begin, end), chosen_P[begin - bounds[0] : end - bounds[0]]
