"""A network with its normalisation inside: what every model form is, from training to the engine."""

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

        Raises BadInput where the network returns something else than one tensor, as some do in training alone.
        """
        logits_NK = self.network(self.normalise(images_NHWC_u8))
        if not isinstance(logits_NK, Tensor):
            mode = "training" if self.network.training else "eval mode"
            raise BadInput(
                f"{type(self.network).__name__} returns a {type(logits_NK).__name__} in {mode}; it must return "
                "its logits alone, in training as in eval mode (leave out auxiliary heads)."
            )
        return logits_NK.float()

    def normalise(self, images_NHWC_u8: Tensor) -> Tensor:
        """Return images_NCHW as the network itself takes them.

        Planes first: numbers for each channel are slow where three channels alternate, in PyTorch (three times)
        as in ONNX Runtime, where it took 2.5 % of a RepVGG-A0. Cast before that: TensorRT transposes no bytes.
        """
        planes_NCHW = images_NHWC_u8.float().permute(0, 3, 1, 2).contiguous()
        return (planes_NCHW - self.offset_C11) / self.scale_C11


def normalised(network: nn.Module, preprocessing: Preprocessing) -> Normalised:
    """Return the network behind the normalisation of its card."""
    return Normalised(network, preprocessing.mean, preprocessing.std)
