"""The algebra of structural re-parameterization: every function returns the kernel that replaces several layers.

Letters: N images, C channels, O output channels, I input channels of one group, K rows or columns of a kernel.
Sources: Ding et al., "Diverse Branch Block" (CVPR 2021), transforms I-VI, here also for groups, dilation,
even and non-square kernels; Ding et al., "RepVGG" (CVPR 2021), figure 4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Affine = tuple[Tensor, Tensor]  # weight_OIKK and bias_O


def follow_by_norm(weight_OIKK: Tensor, bias_O: Tensor, scale_O: Tensor, shift_O: Tensor) -> Affine:
    """Return the kernel that convolves and then applies y * scale + shift (transform I)."""
    return weight_OIKK * scale_O.reshape(-1, 1, 1, 1), bias_O * scale_O + shift_O


def norm_scale_shift(
    gamma_C: Tensor | None, beta_C: Tensor | None, mean_C: Tensor, variance_C: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Return scale = gamma / sigma and shift = beta - mean * scale, with sigma = sqrt(variance + eps)."""
    scale_C = torch.rsqrt(variance_C + eps)
    if gamma_C is not None:
        scale_C = scale_C * gamma_C
    shift_C = -mean_C * scale_C
    return scale_C, shift_C if beta_C is None else beta_C + shift_C


def embed(weight_OIKK: Tensor, window: tuple[int, int], offset: tuple[int, int]) -> Tensor:
    """Return the kernel in a `window` of zeros, its first tap at `offset` (row, column) (transform VI)."""
    rows, columns = weight_OIKK.shape[2:]
    below = window[0] - offset[0] - rows
    right = window[1] - offset[1] - columns
    assert below >= 0 and right >= 0, (weight_OIKK.shape, window, offset)
    return F.pad(weight_OIKK, (offset[1], right, offset[0], below))


def dirac(channels: int, groups: int, like: Tensor) -> Tensor:
    """Return the 1x1 kernel of the identity: output channel c is input channel c.

    A kernel of ones is the identity only in a depthwise convolution, where I is 1.
    """
    one_II = torch.eye(channels // groups, dtype=like.dtype, device=like.device)
    return one_II.repeat(groups, 1).reshape(channels, -1, 1, 1)


def compose_pointwise(first: Affine, then: Affine, groups: int) -> Affine:
    """Return the kernel of a 1x1 convolution followed by a KxK convolution of the same groups (transform III).

    The result is exact only if the KxK convolution pads its input with the bias of the 1x1 convolution, not with
    zero.
    """
    point_MI, bias_M = first[0][:, :, 0, 0], first[1]
    weight_OMKK, bias_O = then
    point_GMI = point_MI.reshape(groups, -1, point_MI.shape[1])
    weight_GOMKK = weight_OMKK.reshape(groups, -1, *weight_OMKK.shape[1:])
    weight_OIKK = torch.einsum("gomhw,gmi->goihw", weight_GOMKK, point_GMI).flatten(0, 1)
    bias_GM = bias_M.reshape(groups, -1)
    carried_O = torch.einsum("gomhw,gm->go", weight_GOMKK, bias_GM).flatten()
    return weight_OIKK, bias_O + carried_O


def average(channels: int, groups: int, window: tuple[int, int], like: Tensor) -> Tensor:
    """Return the kernel of average pooling over `window`, with padding counted in the average (transform V)."""
    spread_OIKK = dirac(channels, groups, like).expand(-1, -1, *window)
    return spread_OIKK / (window[0] * window[1])
