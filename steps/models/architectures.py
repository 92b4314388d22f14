"""ARCHITECTURES and where other networks come from: a name, a class number and an image size make a network.

`resnet18` is looked up here, then in timm, then in torchvision; `timm:resnet18` and `torchvision:resnet18` say
which; `package.module:callable` is the user's own. Names of weights or of hubs are never followed.
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
    "resnet50_vd": lambda class_num, size: _from_zoo("timm:resnet50d", class_num, size),  # PaddleClas's name of it
}
LIBRARY = re.compile(r"^<|/lib/python3")  # files that are not the user's own
OWN_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def create(arch: str, class_num: int, size: int) -> nn.Module:
    """Return the plain network of this name, with fresh weights from torch's global generator.

    It takes float images_NCHW, normalised, of `size` pixels and returns logits_NK. Raises BadInput for a name
    that nobody knows, with the nearest one.
    """
    source, _, name = arch.rpartition(":")
    if not source and name in ARCHITECTURES:
        make = ARCHITECTURES[name]
        return make(**_arguments(arch, make, class_num, size))
    if source in ("", "timm", "torchvision"):
        return _from_zoo(arch, class_num, size)
    if not OWN_NAME.fullmatch(arch):
        raise BadInput(f"'{arch}' is no architecture; one's own is written package.module:callable.")
    return _users_own(source, name, class_num, size)


def library_of(arch: str) -> tuple[str, str]:
    """Return `timm` or `torchvision`, whose network it is, or "" for others', and its name there without a tag."""
    source, _, name = arch.rpartition(":")
    if source not in ("", "timm", "torchvision") or (not source and name in ARCHITECTURES):
        return "", name
    from steps.models import zoos  # two seconds of imports that our own architectures do without

    plain_name = name.partition(".")[0]  # timm's tag of a weights file says nothing about the network
    if source in ("", "timm") and plain_name in zoos.timm_names():
        return "timm", plain_name
    return ("torchvision" if source != "timm" and name in zoos.torchvision_names() else ""), name


def _from_zoo(arch: str, class_num: int, size: int) -> nn.Module:
    """Return a network of timm or torchvision; only a name on their lists is ever given to them."""
    from steps.models import zoos

    library, name = library_of(arch)
    if library:
        make = zoos.create_timm if library == "timm" else zoos.create_torchvision
        return make(name, class_num, size)
    known = [*ARCHITECTURES, *zoos.timm_names(), *zoos.torchvision_names()]
    own = f"our own ({', '.join(list(ARCHITECTURES)[:2])}, ...), timm and torchvision"
    where = arch.rpartition(":")[0] or own
    raise BadInput(f"no architecture '{name}' among {where}.{did_you_mean(name, known)}")


def _users_own(module_name: str, name: str, class_num: int, size: int) -> nn.Module:
    """Return what the user's callable makes, once it was seen to return one logit a class.

    It must name its class number in its signature: a model card may be hostile, and no other callable of any
    installed package shall be started by one.
    """
    arch = f"{module_name}:{name}"
    with _faults_named(f"{arch}: {module_name} cannot be imported from the project's folder"):
        make = getattr(import_module(module_name), name, None)
    if make is None:
        raise BadInput(f"{arch}: {module_name} has no '{name}'.")
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


@contextmanager
def _faults_named(what: str) -> Iterator[None]:
    """Turn whatever the user's own code raises into BadInput: what failed, the error, and the line of his file."""
    try:
        yield
    except (Exception, SystemExit) as fault:
        said = (str(fault).strip().splitlines() or ["no reason given"])[0][:200]
        raise BadInput(f"{what}: {type(fault).__name__}: {said}{_place_of(fault)}.") from fault


def _place_of(fault: BaseException) -> str:
    """Return " (file:line)" of the innermost line that is no library's, or "" where every line is one's."""
    if isinstance(fault, SyntaxError) and fault.filename:
        return f" ({Path(fault.filename).name}:{fault.lineno})"
    frames = traceback.extract_tb(fault.__traceback__)
    own = [frame for frame in frames if frame.filename != __file__ and not LIBRARY.search(frame.filename)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""


def _as_call(arguments: dict[str, int]) -> str:
    return ", ".join(f"{key}={value}" for key, value in arguments.items())


def _arguments(arch: str, make: Any, class_num: int, size: int) -> dict[str, int]:
    """Return the keyword arguments that the callable names."""
    try:
        names = inspect.signature(make).parameters
    except (TypeError, ValueError) as fault:
        raise BadInput(f"{arch} is nothing that can be called.") from fault
    given = {"class_num": class_num, "num_classes": class_num, "size": size, "img_size": size}
    arguments = {key: value for key, value in given.items() if key in names}
    if not {"class_num", "num_classes"} & arguments.keys():
        raise BadInput(f"{arch} takes neither class_num nor num_classes; its head could not fit the data.")
    return arguments
