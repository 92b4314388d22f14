"""The image that is sent through a network to look at it, and the networks that take none."""

import inspect
import itertools

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from steps.errors import BadInput
from steps.tracing.copies import copied

SIZES = (32, 64, 128, 224, 299, 384, 512)
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def example_image(model: nn.Module) -> Tensor:
    """Return the smallest random image that the network takes, in eval mode and float32."""
    refuse_what_cannot_run(model)
    first = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    generator = torch.Generator().manual_seed(0)
    tried = copied(model).float().cpu().eval()
    faults = []
    for channels, size in itertools.product(dict.fromkeys((first, 3)), SIZES):  # the first need not be run first
        image_NCHW = torch.rand(1, channels, size, size, generator=generator, dtype=torch.float32)
        try:
            with torch.no_grad():
                tried(image_NCHW)
        except Exception as fault:  # whatever a network raises on a size it does not take
            faults.append(f"{channels} channels at {size}: {said(fault)}")
        else:
            return image_NCHW
    raise BadInput(
        f"{type(model).__name__}: no forward pass on one image of {first} or 3 channels at "
        f"{', '.join(map(str, SIZES))} pixels; give an example input. Last fault with {faults[-1]}"
    )


def refuse_compiled(model: nn.Module) -> None:
    """Raise BadInput where a network's layers are no torch modules any more."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise BadInput(
            f"{type(model).__name__} was compiled by torch.jit, and its layers cannot be seen; give the network "
            "before torch.jit.script or torch.jit.trace."
        )


def refuse_what_cannot_run(model: nn.Module) -> None:
    """Raise BadInput where a weight is yet to be made, or the network takes something else than one image."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise BadInput("DistributedDataParallel holds the network's numbers; give the one inside, its .module.")
    needed = [
        parameter
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in VARIADIC
    ]
    if len(needed) > 1 or any(parameter.kind is parameter.KEYWORD_ONLY for parameter in needed):
        raise BadInput(
            f"{type(model).__name__} must take one tensor of images by place, and its forward takes "
            f"{', '.join(map(_written, needed))}; wrap it in a module that takes the images alone."
        )
    for name, number in itertools.chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(number):
            raise BadInput(f"{name} has no shape yet; let one image through the network first.")
        if number.is_meta:
            raise BadInput(f"{name} has no numbers (it is on the meta device); make the network on a real one.")


@torch.no_grad()
def refuse_a_precision_of_its_own(model: nn.Module, image_NCHW: Tensor) -> None:
    """Raise BadInput where a network that takes the image in float32 does not in float64, which a fold wants."""
    try:
        copied(model).double().eval()(image_NCHW.double())
    except Exception as fault:  # whatever a network raises that meets two types of numbers
        copied(model).float().eval()(image_NCHW.float())  # what the image itself is to blame for is raised here
        raise BadInput(
            f"{type(model).__name__} does not compute in float64, in which it is folded and proven: {said(fault)}."
            " It casts to a type of its own (.float(), dtype=torch.float32), or keeps a tensor that is no buffer; "
            "write .to(self.fc.weight.dtype), the type that its weights have, and register_buffer."
        ) from fault


def _written(parameter: inspect.Parameter) -> str:
    return f"{parameter.name}=" if parameter.kind is parameter.KEYWORD_ONLY else parameter.name


def said(fault: Exception) -> str:
    """Return what a fault says, on one line."""
    return " ".join(str(fault).split())[:160] or type(fault).__name__
