"""The network's figures on val, in eval mode.

Letters: N val images, K classes.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from steps.errors import Refused
from steps.images.cache import ImageReader
from steps.images.draws import Positions
from steps.metrics.recall import macro_recall, predicted, recall_per_class, top1, worst_recall
from steps.training.batch import Batch
from steps.training.data import in_batches
from steps.training.losses import Loss
from steps.training.samplers import Labels


@dataclass(frozen=True)
class Figures:
    """Means over the val images; recall is nan for a class without val images."""

    loss: float
    top1: float
    macro_recall: float
    worst_recall: float
    recall_K: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Validation:
    """The val images, and how they are judged: call it with a network."""

    images: ImageReader
    rows_N: Positions
    labels_N: Labels
    class_num: int
    loss: Loss

    @torch.inference_mode()
    def __call__(self, network: nn.Module) -> Figures:
        """Return the figures, or refuse when the loss on val is not finite."""
        device = next(network.parameters()).device
        network.eval()
        guessed, losses = [], []
        begin = 0
        for images_NHWC_u8 in self.images.read(in_batches(self.rows_N)):
            labels_N = torch.from_numpy(self.labels_N[begin : begin + len(images_NHWC_u8)])
            batch = Batch(torch.from_numpy(images_NHWC_u8), labels_N).to(device)
            logits_NK = network(batch.images_NHWC_u8)
            losses.append(self.loss(logits_NK, batch).double().cpu().numpy())
            guessed.append(predicted(logits_NK.cpu().numpy()))
            begin += len(images_NHWC_u8)
        return self._figures(float(np.concatenate(losses).mean()), np.concatenate(guessed))

    def _figures(self, loss: float, guessed_N: npt.NDArray[np.int64]) -> Figures:
        if not math.isfinite(loss):
            raise Refused(
                f"the loss on val is not finite ({loss}); lower train.lr or lengthen train.schedule.warmup_epochs."
            )
        recall_K = recall_per_class(guessed_N, self.labels_N, self.class_num)
        return Figures(
            loss=loss,
            top1=top1(guessed_N, self.labels_N),
            macro_recall=macro_recall(recall_K),
            worst_recall=worst_recall(recall_K)[0],
            recall_K=recall_K,
        )
