"""Find norms that no forward pass reached and that the network may use instead of a reached norm.

Some networks have several norms for one convolution, such as domain-specific batch norms or AdvProp's auxiliary
norm. An attribute or an argument selects the norm. A pass shows the selected norm only. If that norm is folded
into the convolution, an alternative norm that is selected later would follow the folded convolution, which is
wrong.
"""

from collections.abc import Iterable, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


def find_alternative_norms(model: nn.Module, norm_of: Mapping[str, str], reached: Iterable[str]) -> dict[str, str]:
    """Return convolution -> alternative norm, for each convolution whose norm has an alternative.

    An alternative has the same number of channels as the norm, and no pass reached the alternative. The smallest
    module that encloses the alternative and has a convolution is the same as for the norm, or is the direct parent
    of the convolution.
    """
    known = set(reached)
    widths = {name: width for name, module in model.named_modules() if (width := _width(module)) is not None}
    unreached = {name: width for name, width in widths.items() if name not in known}
    if not unreached:
        return {}
    with_convs = {
        name[:end] for name, module in model.named_modules() if isinstance(module, _ConvNd) for end in _ends(name)
    }
    candidates: dict[tuple[str, int], str] = {}
    for name, width in unreached.items():
        candidates.setdefault((_parent_with_conv(name, with_convs), width), name)
    found = {}
    for conv, norm in norm_of.items():
        for parent in (_parent_with_conv(norm, with_convs), conv.rpartition(".")[0]):
            if alternative := candidates.get((parent, widths[norm])):
                found[conv] = alternative
    return found


def _width(module: nn.Module) -> int | None:
    """Return the number of channels that a norm takes, or None for any other module."""
    if isinstance(module, _NormBase):
        return module.num_features
    return module.num_channels if isinstance(module, nn.GroupNorm) else None


def _parent_with_conv(name: str, with_convs: set[str]) -> str:
    """Return the path of the smallest module that encloses this module and contains a convolution."""
    return next(name[:end] for end in _ends(name) if name[:end] in with_convs)


def _ends(path: str) -> list[int]:
    """Return the path lengths of all enclosing modules, the longest first; the network itself has length 0."""
    return [*(end for end in reversed(range(len(path))) if path[end] == "."), 0]
