"""A network with its normalisation inside, as in every model form from training to the engine."""

import torch
from torch import Tensor, nn

from steps.errors import BadInput
from steps.reports.card import Preprocessing


class Normalised(nn.Module):
    """Takes images_NHWC_u8 (RGB, at the network's size), returns float32 logits_NK."""

    offset_C11: Tensor
    scale_C11: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("offset_C11", 255 * torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("scale_C11", 255 * torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images_NHWC_u8: Tensor) -> Tensor:
        """Return the network's logits.

        Raises BadInput if the network returns anything but one tensor; some networks do so only in training.
        """
        logits_NK = self.network(self.normalise(images_NHWC_u8))
        if not isinstance(logits_NK, Tensor):
            mode = "training" if self.network.training else "eval mode"
            raise BadInput(
                f"{type(self.network).__name__} returns a {type(logits_NK).__name__} in {mode}; it must return "
                "only its logits, in training and in eval mode (remove auxiliary heads)."
            )
        return logits_NK.float()

    def normalise(self, images_NHWC_u8: Tensor) -> Tensor:
        """Return normalised images_NCHW, the network's input.

        The transpose comes before the normalisation: arithmetic per channel is slow in NHWC layout, three times
        slower in PyTorch, and 2.5 % of the time of a RepVGG-A0 in ONNX Runtime. The cast comes before the
        transpose: TensorRT cannot transpose uint8.
        """
        planes_NCHW = images_NHWC_u8.float().permute(0, 3, 1, 2).contiguous()
        return (planes_NCHW - self.offset_C11) / self.scale_C11


def normalised(network: nn.Module, preprocessing: Preprocessing) -> Normalised:
    """Return the network with the normalisation of its card in front."""
    return Normalised(network, preprocessing.mean, preprocessing.std)
