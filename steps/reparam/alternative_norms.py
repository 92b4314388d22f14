"""Norms that no pass reached and that may take another's place: a network may choose among several.

Domain-specific batch norms and AdvProp's auxiliary norm follow the same convolution, one at a time, by an
attribute or an argument. A pass sees the chosen one; once the convolution has taken that one over, the others
would come after it.
"""

from collections.abc import Iterable, Mapping

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd


def rivals(model: nn.Module, norm_of: Mapping[str, str], reached: Iterable[str]) -> dict[str, str]:
    """Return the convolutions beside whose norm stands one of the same width that no pass reached, with that norm.

    Beside: the smallest module around both that holds a convolution is the same.
    """
    known = set(reached)
    widths = {name: width for name, module in model.named_modules() if (width := _width(module)) is not None}
    unreached = {name: width for name, width in widths.items() if name not in known}
    if not unreached:
        return {}
    holding = {
        name[:end] for name, module in model.named_modules() if isinstance(module, _ConvNd) for end in _ends(name)
    }
    places: dict[tuple[str, int], str] = {}
    for name, width in unreached.items():
        places.setdefault((_place(name, holding), width), name)
    found = {}
    for conv, norm in norm_of.items():
        for place in (_place(norm, holding), conv.rpartition(".")[0]):
            if other := places.get((place, widths[norm])):
                found[conv] = other
    return found


def _width(module: nn.Module) -> int | None:
    """Return the channels that a norm takes; None: it is no norm of channels."""
    if isinstance(module, _NormBase):
        return module.num_features
    return module.num_channels if isinstance(module, nn.GroupNorm) else None


def _place(name: str, holding: set[str]) -> str:
    """Return the path of the smallest module around this one that holds a convolution."""
    return next(name[:end] for end in _ends(name) if name[:end] in holding)


def _ends(path: str) -> list[int]:
    """Return where the modules around a path end, the smallest first; the network itself at 0."""
    return [*(end for end in reversed(range(len(path))) if path[end] == "."), 0]
