"""The networks of the ACNet paper's experiments (Ding et al., ICCV 2019, section 4.1), for images of 32 pixels.

Expanded with `acb` blocks they are the paper's networks. Letters: N images, C channels, H and W pixels, K classes.
"""

from collections import OrderedDict

from torch import Tensor, nn

from steps.models.layers import conv_norm_act


def cifar_quick(class_num: int, size: int) -> nn.Sequential:
    """Return Caffe's Cifar-quick with a batch norm after each convolution: three of 5x5, two linear layers."""
    layers: list[nn.Module] = []
    inputs, side = 3, size
    for outputs, pool in ((32, nn.MaxPool2d(3, 2)), (32, nn.AvgPool2d(3, 2)), (64, nn.AvgPool2d(3, 2))):
        layers += [conv_norm_act(inputs, outputs, 5), pool]
        inputs, side = outputs, (side - 3) // 2 + 1
    hidden = nn.Linear(inputs * side * side, 64)
    return _named(*layers, nn.Flatten(), hidden, nn.ReLU(inplace=True), nn.Linear(64, class_num))


def vgg16_cifar(class_num: int) -> nn.Sequential:
    """Return VGG-16's 13 convolutions, each with a batch norm, and two linear layers on the pooled features."""
    layers: list[nn.Module] = []
    inputs = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers.append(conv_norm_act(inputs, width, 3))
            inputs = width
        layers.append(nn.MaxPool2d(2))
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten())  # with 32 pixels, one pixel is left here
    return _named(*layers, *pooled, nn.Linear(512, 512), nn.ReLU(inplace=True), nn.Linear(512, class_num))


def resnet56_cifar(class_num: int) -> nn.Sequential:
    """Return the 56-layer network of He et al. (2016, section 4.2), with 1x1 convolutions as wider shortcuts."""
    layers: list[nn.Module] = [conv_norm_act(3, 16, 3)]
    inputs = 16
    for width in (16, 32, 64):
        for position in range(9):
            stride = 2 if position == 0 and width > 16 else 1
            layers.append(_basic_block(inputs, width, stride))
            inputs = width
    return _named(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, class_num))


def wrn_16_8(class_num: int) -> nn.Sequential:
    """Return the wide residual network of 16 layers and width 8 (Zagoruyko and Komodakis, BMVC 2016)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    inputs = 16
    for width in (128, 256, 512):
        for position in range(2):
            stride = 2 if position == 0 and width > 128 else 1
            layers.append(_wide_block(inputs, width, stride))
            inputs = width
    last = (nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return _named(*layers, *last, nn.Linear(inputs, class_num))


class Sum(nn.Module):
    """The sum of two paths from one input."""

    def __init__(self, residual: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.residual, self.shortcut = residual, shortcut

    def forward(self, input_NCHW: Tensor) -> Tensor:
        """Return the sum of the outputs of both paths."""
        sum_NCHW: Tensor = self.residual(input_NCHW) + self.shortcut(input_NCHW)
        return sum_NCHW


def _basic_block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return two 3x3 convolutions and a shortcut, added before the last activation."""
    residual = nn.Sequential(conv_norm_act(inputs, outputs, 3, stride), _conv_norm(outputs, outputs, 3))
    shortcut = _conv_norm(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()
    return nn.Sequential(Sum(residual, shortcut), nn.ReLU(inplace=True))


def _wide_block(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return two 3x3 convolutions, each after a norm and an activation, plus a shortcut; nothing follows the sum.

    Where the shape changes, the shortcut also begins after the first activation. Unlike in the paper's block, the
    shortcut and the second convolution are followed by a norm. ACNet's blocks have these norms too, and `expand`
    needs a norm after a convolution. Folding removes the norms.
    """
    before = (nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
    convs = (conv_norm_act(inputs, outputs, 3, stride), _conv_norm(outputs, outputs, 3))
    if inputs == outputs:
        return Sum(nn.Sequential(*before, *convs), nn.Identity())
    return nn.Sequential(*before, Sum(nn.Sequential(*convs), _conv_norm(inputs, outputs, 1, stride)))


def _conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv, norm, _ = conv_norm_act(inputs, outputs, kernel, stride)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm))


def _named(*layers: nn.Module) -> nn.Sequential:
    """Return all layers but the last as `body`, and the last as `head`."""
    *body, head = layers
    return nn.Sequential(OrderedDict[str, nn.Module](body=nn.Sequential(*body), head=head))
