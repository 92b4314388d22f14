"""ARCHITECTURES, and making a network from a name, a number of classes and an image size.

`resnet18` is looked up in ARCHITECTURES, then in timm, then in torchvision. `timm:resnet18` and
`torchvision:resnet18` name the library. `package.module:callable` is a user's own network; own_networks.py says
which modules the train step takes. Names of weights or of model hubs are never used.
"""

import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steps.errors import BadInput, did_you_mean
from steps.models import mobileone_plain, repvgg_plain
from steps.models.cifar_plain import cifar_quick, resnet56_cifar, vgg16_cifar, wrn_16_8

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "repvgg_nano": repvgg_plain.repvgg_nano,
    **{name: partial(repvgg_plain.repvgg_plain, name) for name in repvgg_plain.PAPER},
    **{name: partial(mobileone_plain.mobileone_plain, name) for name in mobileone_plain.PAPER},
    "cifar_quick": cifar_quick,
    "vgg16_cifar": vgg16_cifar,
    "resnet56_cifar": resnet56_cifar,
    "wrn_16_8": wrn_16_8,
    "resnet50_vd": lambda class_num, size: _from_zoo("timm:resnet50d", class_num, size),  # the name in PaddleClas
}
LIBRARY = re.compile(r"^<|/lib/python3")  # files that are not the user's code
OWN_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def create(arch: str, class_num: int, size: int) -> nn.Module:
    """Return the plain network of this name, with new weights from torch's global generator.

    The network takes normalised float images_NCHW of `size` pixels and returns logits_NK. Raises BadInput for an
    unknown name; the message suggests the most similar name.
    """
    source, _, name = arch.rpartition(":")
    if not source and name in ARCHITECTURES:
        make = ARCHITECTURES[name]
        return make(**_arguments(arch, make, class_num, size))
    if source in ("", "timm", "torchvision"):
        return _from_zoo(arch, class_num, size)
    if not OWN_NAME.fullmatch(arch):
        raise BadInput(f"'{arch}' is no architecture; a network of your own is written package.module:callable.")
    return _users_own(source, name, class_num, size)


def library_of(arch: str) -> tuple[str, str]:
    """Return the library (`timm`, `torchvision`, or "" for any other) and the network's name without a tag."""
    source, _, name = arch.rpartition(":")
    if source not in ("", "timm", "torchvision") or (not source and name in ARCHITECTURES):
        return "", name
    from steps.models import zoos  # this import takes two seconds, and ARCHITECTURES does not need it

    plain_name = name.partition(".")[0]  # a tag in timm names a weights file, not a network
    if source in ("", "timm") and plain_name in zoos.timm_names():
        return "timm", plain_name
    return ("torchvision" if source != "timm" and name in zoos.torchvision_names() else ""), name


def _from_zoo(arch: str, class_num: int, size: int) -> nn.Module:
    """Return a network of timm or torchvision; the libraries get only names from their own lists."""
    from steps.models import zoos

    library, name = library_of(arch)
    if library:
        make = zoos.create_timm if library == "timm" else zoos.create_torchvision
        return make(name, class_num, size)
    known = [*ARCHITECTURES, *zoos.timm_names(), *zoos.torchvision_names()]
    all_sources = f"our own ({', '.join(list(ARCHITECTURES)[:2])}, ...), timm and torchvision"
    sources = arch.rpartition(":")[0] or all_sources
    raise BadInput(f"no architecture '{name}' among {sources}.{did_you_mean(name, known)}")


def _users_own(module_name: str, name: str, class_num: int, size: int) -> nn.Module:
    """Return the network that the user's callable makes, after a check that it returns one logit per class.

    The callable must have a parameter for the number of classes. A model card may be hostile: without this rule, a
    card could call any function of any installed package.
    """
    arch = f"{module_name}:{name}"
    make = own_callable(arch)
    arguments = _arguments(arch, make, class_num, size)
    with _faults_named(f"{arch} failed to make the network ({_as_call(arguments)})"):
        network = make(**arguments)
    if not isinstance(network, nn.Module):
        raise BadInput(f"{arch} returned a {type(network).__name__}; it must return a torch.nn.Module.")
    image = (1, 3, size, size)
    with torch.no_grad(), _faults_named(f"{arch} failed on one image of shape {image} (train.preprocess.side)"):
        logits = network.eval()(torch.zeros(image))
    network.train()
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, class_num):
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise BadInput(f"{arch} returns {shape} for one image; it must return logits of shape (1, {class_num}).")
    return network


def own_callable(arch: str) -> Any:
    """Import the module of `package.module:callable` and return the callable, or raise BadInput."""
    module_name, _, name = arch.rpartition(":")
    with _faults_named(f"{arch}: {module_name} cannot be imported from the project's folder"):
        make = getattr(import_module(module_name), name, None)
    if make is None:
        raise BadInput(f"{arch}: {module_name} has no '{name}'.")
    return make


@contextmanager
def _faults_named(what: str) -> Iterator[None]:
    """Turn any error of the user's code into BadInput: what failed, the error, and the line of the user's file."""
    try:
        yield
    except (Exception, SystemExit) as fault:
        reason = (str(fault).strip().splitlines() or ["no reason given"])[0][:200]
        raise BadInput(f"{what}: {type(fault).__name__}: {reason}{_line_of(fault)}.") from fault


def _line_of(fault: BaseException) -> str:
    """Return " (file:line)" of the innermost line in the user's code, or "" if all lines are in libraries."""
    if isinstance(fault, SyntaxError) and fault.filename:
        return f" ({Path(fault.filename).name}:{fault.lineno})"
    frames = traceback.extract_tb(fault.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and not LIBRARY.search(frame.filename)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _as_call(arguments: dict[str, int]) -> str:
    return ", ".join(f"{key}={value}" for key, value in arguments.items())


def _arguments(arch: str, make: Any, class_num: int, size: int) -> dict[str, int]:
    """Return the keyword arguments for the parameters that the callable has."""
    try:
        names = inspect.signature(make).parameters
    except (TypeError, ValueError) as fault:
        raise BadInput(f"{arch} cannot be called; it must be a function or a class.") from fault
    values = {"class_num": class_num, "num_classes": class_num, "size": size, "img_size": size}
    arguments = {key: value for key, value in values.items() if key in names}
    if not {"class_num", "num_classes"} & arguments.keys():
        raise BadInput(
            f"{arch} takes neither class_num nor num_classes; add one of them, so that its head fits the data."
        )
    return arguments
