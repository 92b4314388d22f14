"""The layers of this project's own architectures."""

from collections import OrderedDict

from torch import nn


def conv_norm_act(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution, its batch norm and a ReLU; an odd kernel with stride 1 keeps the image size."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        norm=nn.BatchNorm2d(outputs),
        act=nn.ReLU(inplace=True),
    )
    return nn.Sequential(layers)
