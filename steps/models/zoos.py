"""The networks of timm and torchvision, always without weights: nothing here reaches for the network."""

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torchvision
from torch import nn

from steps.errors import BadInput

AUXILIARY = ("googlenet", "inception_v3")  # their second heads would change what a forward returns


def timm_names() -> list[str]:
    """Return the networks that timm knows."""
    return list(timm.list_models())


def torchvision_names() -> list[str]:
    """Return the classifiers that torchvision knows."""
    return list(torchvision.models.list_models(module=torchvision.models))


def create_timm(name: str, class_num: int, size: int) -> nn.Module:
    """Return a timm network; one bound to an input size (a ViT) is made for `size`, or BadInput is raised."""
    config = timm.get_pretrained_cfg(name)
    bound: dict[str, Any] = {"img_size": size} if config is not None and config.fixed_input_size else {}
    return _made(name, size, partial(timm.create_model, name, pretrained=False, num_classes=class_num, **bound))


def create_torchvision(name: str, class_num: int, size: int) -> nn.Module:
    """Return a torchvision network; auxiliary heads are left out. Raises BadInput for a size it does not take."""
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options = {"image_size": size}
    elif name in AUXILIARY:
        options = {"aux_logits": False, "init_weights": True, "transform_input": True}
    make = partial(torchvision.models.get_model, name, weights=None, num_classes=class_num, **options)
    return _made(name, size, make)


def _made(name: str, size: int, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        return make()
    except (AssertionError, ValueError, RuntimeError) as fault:  # what both libraries raise on an odd size
        said = " ".join(str(fault).split())[:200]
        raise BadInput(
            f"{name} cannot be made for images of {size} pixels (train.preprocess.side): {said}"
        ) from fault
