"""Pair each convolution with its batch norm, by observing forward passes and never by the order of names."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from steps.errors import BadInput
from steps.reparam.alternative_norms import find_alternative_norms
from steps.reparam.custom_layers import custom_rules, draw_numbers
from steps.reparam.geometry import Margins
from steps.reparam.obstacles import (
    NO_NORM,
    another_pass_obstacle,
    conv_obstacle,
    norm_obstacle,
    shared_or_hooked_layers,
    training_obstacle,
)
from steps.tracing.copies import copied
from steps.tracing.example import example_image, one_line, refuse_compiled, refuse_what_cannot_run
from steps.tracing.randomness import fixed_draws, generator_states
from steps.tracing.watch import Seen, Watched, watched_pass

DRAWS = 3  # passes in training mode: a network that draws random numbers may run other layers in each pass


@dataclass(frozen=True)
class Pairing:
    """Every convolution and every batch norm is in a pair, or has a reason why it is not.

    A custom convolution may be in `norm_of`, so that its norm can be absorbed, and also in `lone_convs`, so that
    it is not expanded. A convolution whose only difference is zero padding by its input's size (timm's Conv2dSame)
    is in `zeros_of`, with the zeros that it adds to an image of the example's size. Its branches add the same
    zeros, so the expanded network takes only images of that size.
    """

    norm_of: dict[str, str]
    lone_convs: dict[str, str]
    lone_norms: dict[str, str]
    zeros_of: dict[str, Margins] = field(default_factory=dict)
    watched: Watched | None = None  # the pass in eval mode; None if the network has no convolution


def pair_convs_with_norms(model: nn.Module, example_NCHW: Tensor | None = None) -> Pairing:
    """Return the pairs of convolution and batch norm in eval mode, by data flow, and reasons for all other layers.

    Only the example's shape counts: a random image goes through a copy of the network with random parameters and
    norm statistics. So the same structure gives the same pairs, for all weights. A second pass uses the network's
    own weights; where these weights select other layers, the pair is dropped. Raises BadInput if the network takes
    no image of that shape, has uninitialised parameters, or was compiled.
    """
    convs, norms = _named(model, _ConvNd), _named(model, _BatchNorm)
    if not convs:
        refuse_compiled(model)
        return Pairing({}, {}, {**dict.fromkeys(norms, "no convolution in the network"), **_custom_norms(model)})
    watched = _watch(model, example_NCHW)
    network, seen, blocked = watched.network, watched.seen, shared_or_hooked_layers(model)
    seen_with_own_weights = _pass_with_own_weights(model, watched.images_NCHW)
    lone_norms = {name: why for name in norms if (why := norm_obstacle(network, name, seen, blocked))}
    norm_of: dict[str, str] = {}
    lone_convs: dict[str, str] = {}
    zeros_of: dict[str, Margins] = {}
    for name in convs:
        conv, norm = network.get_submodule(name), seen.norm_of.get(name)
        reason = conv_obstacle(network, name, seen, blocked)
        if reason in (None, NO_NORM) and isinstance(conv, nn.Conv2d) and type(conv) is not nn.Conv2d:
            rules = custom_rules(conv, seen.shapes[name])
            if isinstance(rules, tuple):
                zeros_of[name] = rules
            elif rules is None:
                lone_convs[name] = (
                    f"unsupported kernel: {type(conv).__name__} differs from a plain convolution in an unknown way"
                )
            elif rules != "nothing":
                reason = rules
        reason = reason or lone_norms.get(norm or "")
        if norm is not None and reason is None and seen_with_own_weights is not None:
            reason = another_pass_obstacle(norm, name, seen_with_own_weights, "with the network's own weights")
        if norm is not None and reason is None:
            norm_of[name] = norm
        else:
            lone_convs[name] = reason or NO_NORM
            if norm is not None:
                lone_norms.setdefault(norm, f"its convolution {name}: {reason}")
    pairing = Pairing(norm_of, lone_convs, {**lone_norms, **_custom_norms(model)}, zeros_of, watched)
    return _drop_alternative_norms(pairing, watched)


def _drop_alternative_norms(pairing: Pairing, watched: Watched) -> Pairing:
    """Return the pairing without the pairs whose norm has an alternative that the network may select later."""
    found = find_alternative_norms(watched.network, pairing.norm_of, watched.seen.calls)
    if found:
        trained = (name for training in _training_passes(watched)[0] for name in training.seen.calls)
        found = find_alternative_norms(watched.network, pairing.norm_of, {*watched.seen.calls, *trained})
    reasons = {
        conv: (
            f"the network may use {alternative} instead of its norm: {alternative} is as wide, and no pass "
            f"reached {alternative}; if nothing uses {alternative}, remove it"
        )
        for conv, alternative in found.items()
    }
    of_norms = {pairing.norm_of[conv]: f"its convolution {conv}: {reason}" for conv, reason in reasons.items()}
    return replace(
        pairing,
        norm_of={conv: norm for conv, norm in pairing.norm_of.items() if conv not in reasons},
        lone_convs={**pairing.lone_convs, **reasons},
        lone_norms={**pairing.lone_norms, **of_norms},
    )


def training_pass(pairing: Pairing) -> tuple[Watched | None, dict[str, str], str | None]:
    """Return a pass in training mode on two random images, conv -> reason for the pairs that fail, and a fault.

    The reasons come from up to three passes with different random draws. If the network cannot train on two images
    of that size, the pass is None and the fault is the network's error.
    """
    passes, fault = ([], None) if pairing.watched is None else _training_passes(pairing.watched)
    reasons: dict[str, str] = {}
    for training in passes:
        for conv, norm in pairing.norm_of.items():
            if conv not in reasons and (why := training_obstacle(norm, training.network, conv, training.seen)):
                reasons[conv] = why
    return (passes[0] if passes else None), reasons, fault


def _training_passes(watched: Watched) -> tuple[list[Watched], str | None]:
    """Return the passes in training mode, each with other random draws, or no pass and the network's error.

    Gradients are enabled only if the network fails without them: it may hook a tensor or compute a gradient
    itself.
    """
    images_NCHW = _noise((2, *watched.images_NCHW.shape[1:]), seed=1)
    error = None
    for gradients in (False, True):
        try:
            with torch.set_grad_enabled(gradients):
                return _passes(watched.network, images_NCHW), None
        except Exception as fault:  # a network may raise anything on images that it cannot train on
            error = f"{type(fault).__name__}: {one_line(fault)}"
    return [], error


def _passes(random_network: nn.Module, images_NCHW: Tensor) -> list[Watched]:
    """Return the passes in training mode; one pass is enough for a network that draws no random numbers."""
    passes: list[Watched] = []
    for seed in range(DRAWS):
        network = copied(random_network).train()
        with fixed_draws(seed):
            before = generator_states()
            seen = watched_pass(network, images_NCHW)
            has_drawn = generator_states() != before
        first_copy = passes[0].network if passes else network  # the others can be freed
        passes.append(Watched(first_copy, images_NCHW, seen, torch.is_grad_enabled()))
        if not has_drawn:
            break
    return passes


@torch.no_grad()
def _watch(model: nn.Module, example_NCHW: Tensor | None) -> Watched:
    """Return the pass of one random image of the example's shape in eval mode, with random parameters."""
    refuse_what_cannot_run(model)
    shape = (example_image(model) if example_NCHW is None else example_NCHW).shape
    image_NCHW = _noise((1, *shape[1:]), seed=0)
    network = copied(model).float().cpu().eval()
    draw_numbers(network)
    try:
        with fixed_draws():
            return Watched(network, image_NCHW, watched_pass(network, image_NCHW))
    except Exception as fault:  # a network may raise anything on an image that it does not take
        size = "x".join(map(str, shape[1:]))
        raise BadInput(f"{type(model).__name__} takes no image of {size}: {one_line(fault)}") from fault


@torch.no_grad()
def _pass_with_own_weights(model: nn.Module, image_NCHW: Tensor) -> Seen | None:
    """Return the pass of the image with the network's own weights, which may select layers; None if it fails.

    Only the data flow counts: the values may overflow or cancel.
    """
    try:
        with fixed_draws():
            return watched_pass(copied(model).float().cpu().eval(), image_NCHW)
    except Exception:  # a network may raise anything on weights that are not finite
        return None


def _noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return normal random numbers in float32, independent of torch's default dtype."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def _named(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, kind) and name]


def _custom_norms(model: nn.Module) -> dict[str, str]:
    """Return norm -> reason for the norms of a custom class, such as torchvision's FrozenBatchNorm2d."""
    return {
        name: f"{type(module).__name__} is no batch norm class of torch"
        for name, module in model.named_modules()
        if name and "running_var" in module._buffers and not isinstance(module, nn.modules.batchnorm._NormBase)
    }
