"""The last layer of a network: its path, its parameters, and a bottleneck before it.

Letters: F features that reach the head, W the bottleneck's width, K classes.
"""

from collections import OrderedDict
from typing import Any

from torch import nn

from steps.errors import BadInput
from steps.tracing.copies import copied
from steps.tracing.example import example_image
from steps.tracing.flow import called_modules
from steps.tracing.outputs import tensors_of


class Bottleneck(nn.Sequential):
    """Two linear layers, F to W to K, that replace one layer: F W + W K parameters instead of F K.

    No activation is between the two layers: together they are the last layer with a rank of at most W.
    """


def head_names(network: nn.Module) -> tuple[str, ...]:
    """Return the paths of the layers that make the logits, or an empty tuple if no such layer is found.

    timm's networks name their heads, sometimes several (a distilled transformer averages two). In other networks
    the head is the last called layer among the linear layers and convolutions as wide as the output; if the pass
    calls none of these, the last of them in the order of names. A network that takes no image of a usual size has
    no pass: its head is the last linear layer or convolution in the order of names.
    """
    modules = dict(network.named_modules())
    bottlenecks = [name for name, module in modules.items() if isinstance(module, Bottleneck)]
    if bottlenecks:
        return (bottlenecks[0],)
    timm_heads = tuple(name for name in _named_by_timm(network) if name in modules)
    if timm_heads:
        return timm_heads
    names = [name for kind in (nn.Conv2d, nn.Linear) for name in _of_kind(network, kind)]
    return (_last_called(network, names),) if len(names) > 1 else tuple(names)


def head_name(network: nn.Module) -> str:
    """Return the paths of `head_names`, separated by commas, or "" for none."""
    return ", ".join(head_names(network))


def head_parameters(network: nn.Module) -> int:
    """Return the number of parameters of all heads, including a bottleneck."""
    return sum(_count(network.get_submodule(name)) for name in head_names(network))


def class_parameters(network: nn.Module, class_num: int) -> int:
    """Return the number of the heads' parameters per class."""
    heads = [network.get_submodule(name) for name in head_names(network)]
    return sum(_count(head[-1] if isinstance(head, Bottleneck) else head) for head in heads) // class_num


def add_bottleneck(network: nn.Module, width: int) -> None:
    """Put a layer of `width` features before the head; both layers start with new weights.

    Raises BadInput if the head is neither a linear layer nor a 1x1 convolution, or if there are several heads.
    """
    name, *more_heads = head_names(network) or ("",)
    head = network.get_submodule(name) if name else None
    narrow: nn.Module
    last: nn.Module
    if isinstance(head, nn.Linear) and type(head).__name__ == "Linear" and not more_heads:  # of torch or timm
        narrow = nn.Linear(head.in_features, width)
        last = nn.Linear(width, head.out_features, bias=head.bias is not None)
    elif type(head) is nn.Conv2d and _is_pointwise(head) and not more_heads:
        narrow = nn.Conv2d(head.in_channels, width, 1)
        last = nn.Conv2d(width, head.out_channels, 1, bias=head.bias is not None)
    else:
        single = f"{type(head).__name__} '{name}'" if head else "no last layer"
        found = "several last layers" if more_heads else single
        raise BadInput(
            f"train.bottleneck: {type(network).__name__} has {found}; a bottleneck needs one linear layer or 1x1 "
            "convolution as last layer. Set train.bottleneck to null."
        )
    network.set_submodule(name, Bottleneck(OrderedDict(narrow=narrow, last=last)))


def _of_kind(network: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, kind)]


def _last_called(network: nn.Module, names: list[str]) -> str:
    """Return the layer among `names` that a pass calls last; the order of registration may be another.

    Only layers as wide as the output count: a layer that is called after the head (a temperature) makes no logits.
    A network may also use a head's weights without calling the head; then the last name counts.
    """
    try:
        image_NCHW = example_image(network)
    except BadInput:
        return names[-1]
    copy, outputs = copied(network).float().cpu().eval(), list[Any]()
    copy.register_forward_hook(lambda _, __, output: outputs.append(output))
    called = called_modules(copy, image_NCHW)
    classes = tensors_of(outputs)[0].shape[-1]
    candidates = [name for name in names if _width(copy.get_submodule(name)) == classes] or names
    return next((name for name in reversed(called) if name in candidates), candidates[-1])


def _width(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return (*conv.kernel_size, *conv.stride, conv.padding, conv.groups) == (1, 1, 1, 1, (0, 0), 1)


def _named_by_timm(network: nn.Module) -> tuple[str, ...]:
    config: Any = getattr(network, "pretrained_cfg", None) or {}
    names = config.get("classifier") if hasattr(config, "get") else None
    return (names,) if isinstance(names, str) else tuple(names or ())


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
