"""How a network lies in memory while it trains: channels last, but for what oneDNN cannot do so.

On a CPU with AVX2 and no AVX-512, oneDNN 3.12 (torch 2.14) writes outside its memory where it takes the gradient
of a 1x1 kernel with a stride from fewer than 8 channels that lie last: a training ends in "double free or
corruption", or in what nobody notices. The 1x1 branch of every strided stem on RGB images is such a convolution.
"""

import torch
from torch import Tensor, nn

LANES = 8  # floats in a register of AVX2; from so many channels on, oneDNN takes another kernel


def lay_out(network: nn.Module) -> None:
    """Lay the network's kernels in the order that convolutions are fastest in, on CPUs and GPUs.

    On a CPU the convolutions that oneDNN cannot take so keep theirs, and are handed images in the same order.
    """
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.device.type == "cpu" and _is_spoilt(module):
            module.weight.data = module.weight.data.clone(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_channels_first)


def _is_spoilt(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.weight.shape[1] < LANES


def _channels_first(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    image_NCHW, *rest = inputs
    return image_NCHW.clone(memory_format=torch.contiguous_format), *rest
