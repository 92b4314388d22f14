"""One batch of training images, with all that a loss may need to know of them.

Letters: N images, H and W pixels, C = 3 channels (RGB), K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """`weights_N` are the weights of the images in the mean loss; a distilling loss reads `teacher_logits_NK`."""

    images_NHWC_u8: Tensor
    labels_N: Tensor
    weights_N: Tensor | None = None
    teacher_logits_NK: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on the device; the copy does not wait for the device."""
        tensors = (self.images_NHWC_u8, self.labels_N, self.weights_N, self.teacher_logits_NK)
        return Batch(*(tensor if tensor is None else tensor.to(device, non_blocking=True) for tensor in tensors))  # type: ignore[arg-type]

    def mean(self, losses_N: Tensor) -> Tensor:
        """Return the mean loss of the batch, weighted where the images have weights."""
        if self.weights_N is None:
            return losses_N.mean()
        return (losses_N * self.weights_N).sum() / self.weights_N.sum()
