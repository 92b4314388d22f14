"""An example image for observing a network, and the refusal of networks that cannot take one."""

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
    network = copied(model).float().cpu().eval()
    faults = []
    # also 3 channels: the first registered convolution need not be the first that runs
    for channels, size in itertools.product(dict.fromkeys((first, 3)), SIZES):
        image_NCHW = torch.rand(1, channels, size, size, generator=generator, dtype=torch.float32)
        try:
            with torch.no_grad():
                network(image_NCHW)
        except Exception as fault:  # a network may raise anything on a size that it does not take
            faults.append(f"{channels} channels at {size}: {one_line(fault)}")
        else:
            return image_NCHW
    raise BadInput(
        f"{type(model).__name__}: no forward pass succeeds on one image of {first} or 3 channels at "
        f"{', '.join(map(str, SIZES))} pixels; give an example input. Last fault, with {faults[-1]}"
    )


def refuse_compiled(model: nn.Module) -> None:
    """Raise BadInput if torch.jit has compiled a network, because its layers are no torch modules any more."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise BadInput(
            f"{type(model).__name__} was compiled by torch.jit, and its layers are not visible; pass the network "
            "as it was before torch.jit.script or torch.jit.trace."
        )


def refuse_what_cannot_run(model: nn.Module) -> None:
    """Raise BadInput if a parameter is uninitialised, or if the network does not take one batch of images."""
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise BadInput("the network is wrapped in DistributedDataParallel; pass the network inside, its .module.")
    needed = [
        parameter
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.default is parameter.empty and parameter.kind not in VARIADIC
    ]
    if len(needed) > 1 or any(parameter.kind is parameter.KEYWORD_ONLY for parameter in needed):
        raise BadInput(
            f"{type(model).__name__} must take one positional tensor of images, and its forward takes "
            f"{', '.join(map(_written, needed))}; wrap the network in a module that takes the images only."
        )
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor):
            raise BadInput(f"{name} has no shape yet; run one image through the network first.")
        if tensor.is_meta:
            raise BadInput(f"{name} has no values (it is on the meta device); make the network on a real device.")


@torch.no_grad()
def refuse_a_precision_of_its_own(model: nn.Module, image_NCHW: Tensor) -> None:
    """Raise BadInput if a network takes the image in float32 but not in float64; folding needs float64."""
    try:
        copied(model).double().eval()(image_NCHW.double())
    except Exception as fault:  # a network that mixes two dtypes may raise anything
        copied(model).float().eval()(image_NCHW.float())  # raises here if the image is the cause
        raise BadInput(
            f"{type(model).__name__} does not compute in float64, and folding needs float64: {one_line(fault)}. "
            "It casts to a fixed dtype (.float(), dtype=torch.float32), or keeps a tensor that is no buffer; "
            "write .to(self.fc.weight.dtype), the dtype of its weights, and register_buffer."
        ) from fault


def _written(parameter: inspect.Parameter) -> str:
    return f"{parameter.name}=" if parameter.kind is parameter.KEYWORD_ONLY else parameter.name


def one_line(fault: Exception) -> str:
    """Return the message of a fault on one line of at most 160 characters, or its type if it has no message."""
    return " ".join(str(fault).split())[:160] or type(fault).__name__
