"""Which batch norm belongs to which convolution: seen by watching forward passes, never by order of names."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from steps.errors import BadInput
from steps.reparam.alternative_norms import rivals
from steps.reparam.custom_layers import draw_numbers, own_rules
from steps.reparam.geometry import Margins
from steps.reparam.obstacles import (
    NO_NORM,
    another_pass_obstacle,
    conv_obstacle,
    held_layers,
    norm_obstacle,
    training_obstacle,
)
from steps.tracing.copies import copied
from steps.tracing.example import example_image, refuse_compiled, refuse_what_cannot_run, said
from steps.tracing.randomness import drawing_alike, generators
from steps.tracing.watch import Seen, Watched, watched_pass

DRAWS = 3  # passes of training mode: what a network leaves to chance may go another way in each


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

    The example gives a shape and nothing else: a random image goes through a copy of the network, whose parameters
    and norm statistics are drawn; so the same structure gives the same pairs, whatever its weights are. A second
    pass with the numbers that it has costs a pair where they choose another way. Raises BadInput where the network
    takes no image of that shape, has no numbers yet, or was compiled.
    """
    convs, norms = _named(model, _ConvNd), _named(model, _BatchNorm)
    if not convs:
        refuse_compiled(model)
        return Pairing({}, {}, {**dict.fromkeys(norms, "no convolution in the network"), **_foreign_norms(model)})
    watched = _watch(model, example_NCHW)
    network, seen, held = watched.network, watched.seen, held_layers(model)
    undrawn = _seen_undrawn(model, watched.images_NCHW)
    lone_norms = {name: why for name in norms if (why := norm_obstacle(network, name, seen, held))}
    taken: dict[str, str] = {}
    lone_convs: dict[str, str] = {}
    zeros_of: dict[str, Margins] = {}
    for name in convs:
        conv, norm = network.get_submodule(name), seen.norm_of.get(name)
        reason = conv_obstacle(network, name, seen, held)
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
        if norm is not None and reason is None and undrawn is not None:
            reason = another_pass_obstacle(norm, name, undrawn, "with the numbers that it has")
        if norm is not None and reason is None:
            taken[name] = norm
        else:
            lone_convs[name] = reason or NO_NORM
            if norm is not None:
                lone_norms.setdefault(norm, f"its convolution {name}: {reason}")
    pairing = Pairing(taken, lone_convs, {**lone_norms, **_foreign_norms(model)}, zeros_of, watched)
    return _without_rivals(pairing, watched)


def _without_rivals(pairing: Pairing, watched: Watched) -> Pairing:
    """Return the pairing without the norms beside which stands one that no pass reached: it may be chosen."""
    found = rivals(watched.network, pairing.norm_of, watched.seen.calls)
    if found:
        trained = (name for one in _training_passes(watched)[0] for name in one.seen.calls)
        found = rivals(watched.network, pairing.norm_of, {*watched.seen.calls, *trained})
    reasons = {
        conv: f"{other} stands beside its norm, as wide, and no pass reached it; if nothing uses it, take it out"
        for conv, other in found.items()
    }
    of_norms = {pairing.norm_of[conv]: f"its convolution {conv}: {reason}" for conv, reason in reasons.items()}
    return replace(
        pairing,
        norm_of={conv: norm for conv, norm in pairing.norm_of.items() if conv not in reasons},
        lone_convs={**pairing.lone_convs, **reasons},
        lone_norms={**pairing.lone_norms, **of_norms},
    )


def in_training(pairing: Pairing) -> tuple[Watched | None, dict[str, str], str | None]:
    """Return the pass of training mode, two random images, and which pairs are none there, each with its reason.

    What a second and third pass draw otherwise counts among the reasons. None where the network cannot train on
    two images of that size: it is then known in eval mode alone, and what it raises is the third.
    """
    passes, fault = ([], None) if pairing.watched is None else _training_passes(pairing.watched)
    found: dict[str, str] = {}
    for one in passes:
        for conv, norm in pairing.norm_of.items():
            if conv not in found and (why := training_obstacle(norm, one.network, conv, one.seen)):
                found[conv] = why
    return (passes[0] if passes else None), found, fault


def _training_passes(watched: Watched) -> tuple[list[Watched], str | None]:
    """Return what passes of training mode show, each with other draws; none, where it fails, and what it raises.

    Gradients run only where a network needs them: it hooks a tensor, or asks for a gradient on its way.
    """
    images_NCHW = _noise((2, *watched.images_NCHW.shape[1:]), seed=1)
    raised = None
    for gradients in (False, True):
        try:
            with torch.set_grad_enabled(gradients):
                return _passes(watched.network, images_NCHW), None
        except Exception as fault:  # whatever a network raises on images that it does not train on
            raised = f"{type(fault).__name__}: {said(fault)}"
    return [], raised


def _passes(drawn: nn.Module, images_NCHW: Tensor) -> list[Watched]:
    """Return the passes of training mode; a network that draws nothing shows the same in each: one is enough."""
    passes: list[Watched] = []
    for seed in range(DRAWS):
        network = copied(drawn).train()
        with drawing_alike(seed):
            before = generators()
            seen = watched_pass(network, images_NCHW)
            drew = generators() != before
        one_copy_is_enough = passes[0].network if passes else network
        passes.append(Watched(one_copy_is_enough, images_NCHW, seen, torch.is_grad_enabled()))
        if not drew:
            break
    return passes


@torch.no_grad()
def _watch(model: nn.Module, example_NCHW: Tensor | None) -> Watched:
    """Return what one random image, of the example's shape, shows in eval mode."""
    refuse_what_cannot_run(model)
    shape = (example_image(model) if example_NCHW is None else example_NCHW).shape
    image_NCHW = _noise((1, *shape[1:]), seed=0)
    network = copied(model).float().cpu().eval()
    draw_numbers(network)
    try:
        with drawing_alike():
            return Watched(network, image_NCHW, watched_pass(network, image_NCHW))
    except Exception as fault:  # whatever a network raises on an image that it does not take
        size = "x".join(map(str, shape[1:]))
        raise BadInput(f"{type(model).__name__} takes no image of {size}: {said(fault)}") from fault


@torch.no_grad()
def _seen_undrawn(model: nn.Module, image_NCHW: Tensor) -> Seen | None:
    """Return what the image shows of a network with its own numbers, which may choose its way; None: it fails.

    What the numbers come to is not compared: they may overflow or cancel.
    """
    try:
        with drawing_alike():
            return watched_pass(copied(model).float().cpu().eval(), image_NCHW)
    except Exception:  # whatever a network raises of numbers that are none
        return None


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return normal numbers in float32, whatever torch's default is."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def _named(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kind) and name]


def _foreign_norms(model: nn.Module) -> dict[str, str]:
    """Return the norms of somebody's own class (torchvision's FrozenBatchNorm2d), with the reason."""
    return {
        name: f"{type(module).__name__} is no batch norm of torch's"
        for name, module in model.named_modules()
        if name and "running_var" in module._buffers and not isinstance(module, nn.modules.batchnorm._NormBase)
    }
