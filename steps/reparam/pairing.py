"""Which batch norm belongs to which convolution: seen by watching forward passes, never by order of names."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.parameter import is_lazy

from steps.errors import BadInput
from steps.reparam.copies import copied
from steps.reparam.geometry import Margins
from steps.reparam.obstacles import NO_NORM, conv_obstacle, norm_obstacle, shared_layers, training_obstacle
from steps.reparam.own_classes import draw_norms, own_rules
from steps.reparam.watch import Watched, watched_pass

SIZES = (32, 64, 128, 224, 299, 384, 512)


@dataclass(frozen=True)
class Pairing:
    """Every convolution and every batch norm is in a pair or has a reason why it is not.

    A convolution with rules of its own may be in a pair, so that its norm can go, and have a reason, so that it is
    not expanded. One whose only rule is to pad with zeros by its input's size (timm's Conv2dSame) stands in
    `zeros_of`, with what it adds to an image like the example: its branches add the same, so they want images of
    that size.
    """

    norm_of: dict[str, str]
    lone_convs: dict[str, str]
    lone_norms: dict[str, str]
    zeros_of: dict[str, Margins] = field(default_factory=dict)
    watched: Watched | None = None  # the pass of eval mode; None: there is no convolution to watch


def pair_convs_with_norms(model: nn.Module, example_NCHW: Tensor | None = None) -> Pairing:
    """Return the pairs of convolution and batch norm in eval mode, by data flow, and why the others are alone.

    The example gives a shape and nothing else: a random image goes through a copy of the network, whose norms have
    drawn numbers; so the same structure gives the same pairs, whatever its weights are. Raises BadInput where the
    network takes no image of that shape, or has no numbers yet.
    """
    convs, norms = _named(model, _ConvNd), _named(model, _BatchNorm)
    if not convs:
        return Pairing({}, {}, {**dict.fromkeys(norms, "no convolution in the network"), **_foreign_norms(model)})
    watched = _watch(model, example_NCHW)
    network, seen, shared = watched.network, watched.seen, shared_layers(model)
    lone_norms = {name: why for name in norms if (why := norm_obstacle(network, name, seen, shared))}
    taken: dict[str, str] = {}
    lone_convs: dict[str, str] = {}
    zeros_of: dict[str, Margins] = {}
    for name in convs:
        conv, norm = network.get_submodule(name), seen.norm_of.get(name)
        reason = conv_obstacle(network, name, seen, shared)
        if reason in (None, NO_NORM) and isinstance(conv, nn.Conv2d) and type(conv) is not nn.Conv2d:
            rules = own_rules(conv, seen.shapes[name])
            if isinstance(rules, tuple):
                zeros_of[name] = rules
            elif rules is None:
                lone_convs[name] = (
                    f"unsupported kernel: {type(conv).__name__} is a convolution with rules of its own"
                )
            elif rules != "nothing":
                reason = rules
        reason = reason or lone_norms.get(norm or "")
        if norm is not None and reason is None:
            taken[name] = norm
        else:
            lone_convs[name] = reason or NO_NORM
            if norm is not None:
                lone_norms.setdefault(norm, f"its convolution {name}: {reason}")
    return Pairing(taken, lone_convs, {**lone_norms, **_foreign_norms(model)}, zeros_of, watched)


def in_training(pairing: Pairing) -> tuple[Watched | None, dict[str, str]]:
    """Return the pass of training mode, two random images, and which pairs are none there, each with its reason.

    None where the network cannot train on two images of that size: it is then known in eval mode alone.
    """
    if pairing.watched is None:
        return None, {}
    network = copied(pairing.watched.network).train()
    shape = (2, *pairing.watched.images_NCHW.shape[1:])
    images_NCHW = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    try:
        with drawing_alike():
            seen = watched_pass(network, images_NCHW)
    except Exception:  # whatever a network raises on images that it does not train on
        return None, {}
    pairs = pairing.norm_of.items()
    found = {conv: why for conv, norm in pairs if (why := training_obstacle(norm, network, conv, seen))}
    return Watched(network, images_NCHW, seen), found


@contextmanager
def drawing_alike() -> Iterator[None]:
    """Make what networks draw (dropout, dropped paths) the same each time, and leave torch's generators alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        yield


def example_image(model: nn.Module) -> Tensor:
    """Return the smallest random image that the network takes, in eval mode and float32."""
    _refuse_without_numbers(model)
    first = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    generator = torch.Generator().manual_seed(0)
    tried = copied(model).float().cpu().eval()
    faults = []
    for channels, size in itertools.product(dict.fromkeys((first, 3)), SIZES):  # the first need not be run first
        image_NCHW = torch.rand(1, channels, size, size, generator=generator)
        try:
            with torch.no_grad():
                tried(image_NCHW)
        except Exception as fault:  # whatever a network raises on a size it does not take
            faults.append(f"{channels} channels at {size}: {_said(fault)}")
        else:
            return image_NCHW
    raise BadInput(
        f"{type(model).__name__}: no forward pass on one image of {first} or 3 channels at "
        f"{', '.join(map(str, SIZES))} pixels; give an example input. Last fault with {faults[-1]}"
    )


def _watch(model: nn.Module, example_NCHW: Tensor | None) -> Watched:
    """Return what one random image, of the example's shape, shows in eval mode."""
    _refuse_without_numbers(model)
    shape = (example_image(model) if example_NCHW is None else example_NCHW).shape
    image_NCHW = torch.randn((1, *shape[1:]), generator=torch.Generator().manual_seed(0))
    network = copied(model).float().cpu().eval()
    draw_norms(network)
    try:
        with drawing_alike():
            return Watched(network, image_NCHW, watched_pass(network, image_NCHW))
    except Exception as fault:  # whatever a network raises on an image that it does not take
        size = "x".join(map(str, shape[1:]))
        raise BadInput(f"{type(model).__name__} takes no image of {size}: {_said(fault)}") from fault


def _refuse_without_numbers(model: nn.Module) -> None:
    """Raise BadInput where a weight is yet to be made."""
    for name, number in itertools.chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(number):
            raise BadInput(f"{name} has no shape yet; let one image through the network first.")
        if number.is_meta:
            raise BadInput(f"{name} has no numbers (it is on the meta device); make the network on a real one.")


def _named(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kind) and name]


def _foreign_norms(model: nn.Module) -> dict[str, str]:
    """Return the norms of somebody's own class (torchvision's FrozenBatchNorm2d), with the reason."""
    return {
        name: f"{type(module).__name__} is no batch norm of torch's"
        for name, module in model.named_modules()
        if name and "running_var" in module._buffers and not isinstance(module, nn.modules.batchnorm._NormBase)
    }


def _said(fault: Exception) -> str:
    return " ".join(str(fault).split())[:160]
