"""The last layer of a network: where it is, what it costs, and a bottleneck before it.

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
    """Two linear maps, F to W to K, in the place of one: F W + W K numbers where F K would be.

    Nothing is between them: it is the last layer with its rank bounded by W, and costs no other kind of layer.
    """


def head_names(network: nn.Module) -> tuple[str, ...]:
    """Return the paths of the layers that make the logits; none where there are none to be found.

    timm says so itself, and may name several (a distilled transformer averages two); else it is, of the linear
    layers and convolutions as wide as the output, the one that an image comes to last, or the last one by name
    where it comes to none. Of a network that takes no image of a usual size it is the last one of all by name.
    """
    modules = dict(network.named_modules())
    bottlenecks = [name for name, module in modules.items() if isinstance(module, Bottleneck)]
    if bottlenecks:
        return (bottlenecks[0],)
    named = tuple(name for name in _named_by_timm(network) if name in modules)
    if named:
        return named
    names = [name for kind in (nn.Conv2d, nn.Linear) for name in _of_kind(network, kind)]
    return (_last_called(network, names),) if len(names) > 1 else tuple(names)


def head_name(network: nn.Module) -> str:
    """Return those paths as they are said: one after the other, and "" where there are none."""
    return ", ".join(head_names(network))


def head_parameters(network: nn.Module) -> int:
    """Return the number of parameters of the head, its bottleneck included, or of all heads."""
    return sum(_count(network.get_submodule(name)) for name in head_names(network))


def class_parameters(network: nn.Module, class_num: int) -> int:
    """Return how many of the heads' parameters belong to each class."""
    heads = [network.get_submodule(name) for name in head_names(network)]
    return sum(_count(head[-1] if isinstance(head, Bottleneck) else head) for head in heads) // class_num


def add_bottleneck(network: nn.Module, width: int) -> None:
    """Put a layer of `width` features before the one that makes the logits; both begin with fresh weights.

    Raises BadInput where that is neither a linear layer nor a 1x1 convolution, or where there are several.
    """
    name, *others = head_names(network) or ("",)
    head = network.get_submodule(name) if name else None
    narrow: nn.Module
    last: nn.Module
    if isinstance(head, nn.Linear) and type(head).__name__ == "Linear" and not others:  # torch's, or timm's
        narrow = nn.Linear(head.in_features, width)
        last = nn.Linear(width, head.out_features, bias=head.bias is not None)
    elif type(head) is nn.Conv2d and _is_pointwise(head) and not others:
        narrow = nn.Conv2d(head.in_channels, width, 1)
        last = nn.Conv2d(width, head.out_channels, 1, bias=head.bias is not None)
    else:
        found = "several last layers" if others else f"{type(head).__name__} '{name}'" if head else "no last layer"
        raise BadInput(
            f"train.bottleneck: {type(network).__name__} has {found}; a bottleneck goes before one linear layer "
            "or 1x1 convolution. Leave train.bottleneck null."
        )
    network.set_submodule(name, Bottleneck(OrderedDict(narrow=narrow, last=last)))


def _of_kind(network: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, kind)]


def _last_called(network: nn.Module, names: list[str]) -> str:
    """Return which of these a pass calls last: a network may make its head before what comes before it.

    Only those count that are as wide as the output. A head may be read and not called, and what is called after it
    (a temperature) makes no logits.
    """
    try:
        image_NCHW = example_image(network)
    except BadInput:
        return names[-1]
    copy, outputs = copied(network).float().cpu().eval(), list[Any]()
    copy.register_forward_hook(lambda _, __, output: outputs.append(output))
    called = called_modules(copy, image_NCHW)
    classes = tensors_of(outputs)[0].shape[-1]
    wide = [name for name in names if _width(copy.get_submodule(name)) == classes] or names
    return next((name for name in reversed(called) if name in wide), wide[-1])


def _width(layer: nn.Module) -> int:
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return (*conv.kernel_size, *conv.stride, conv.padding, conv.groups) == (1, 1, 1, 1, (0, 0), 1)


def _named_by_timm(network: nn.Module) -> tuple[str, ...]:
    config: Any = getattr(network, "pretrained_cfg", None) or {}
    named = config.get("classifier") if hasattr(config, "get") else None
    return (named,) if isinstance(named, str) else tuple(named or ())


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
