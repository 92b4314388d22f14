"""The memory format of a network in training: channels last, except where oneDNN has a fault.

On a CPU with AVX2 and without AVX-512, oneDNN 3.12 (torch 2.14) writes outside its memory in one case: the
gradient of a 1x1 kernel with a stride and fewer than 8 input channels, in channels-last format. The training then
ends in "double free or corruption", or goes on with wrong numbers. The 1x1 branch of every strided stem on RGB
images is such a convolution.
"""

import torch
from torch import Tensor, nn

LANES = 8  # floats in an AVX2 register; with at least as many channels, oneDNN takes another kernel


def lay_out(network: nn.Module) -> None:
    """Put the network into channels-last format, in which convolutions are fastest on CPUs and GPUs.

    On a CPU the convolutions with the fault stay in contiguous format, and a hook hands them contiguous images.
    """
    network.to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.device.type == "cpu" and _has_the_fault(module):
            module.weight.data = module.weight.data.clone(memory_format=torch.contiguous_format)
            module.register_forward_pre_hook(_channels_first)


def _has_the_fault(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.weight.shape[1] < LANES


def _channels_first(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    image_NCHW, *rest = inputs
    return image_NCHW.clone(memory_format=torch.contiguous_format), *rest
