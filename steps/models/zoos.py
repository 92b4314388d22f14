"""The networks of timm and torchvision, always without pretrained weights: nothing here downloads a file."""

from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torchvision
from torch import nn

from steps.errors import BadInput

AUXILIARY = ("googlenet", "inception_v3")  # with their second heads they would return several outputs


def timm_names() -> list[str]:
    """Return the names of timm's networks."""
    return list(timm.list_models())


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classifiers."""
    return list(torchvision.models.list_models(module=torchvision.models))


def create_timm(name: str, class_num: int, size: int) -> nn.Module:
    """Return a timm network; one with a fixed input size (a ViT) is made for `size`, or BadInput is raised."""
    config = timm.get_pretrained_cfg(name)
    options: dict[str, Any] = {"img_size": size} if config is not None and config.fixed_input_size else {}
    return _make(name, size, partial(timm.create_model, name, pretrained=False, num_classes=class_num, **options))


def create_torchvision(name: str, class_num: int, size: int) -> nn.Module:
    """Return a torchvision network without auxiliary heads; raise BadInput for a size that it does not take."""
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options = {"image_size": size}
    elif name in AUXILIARY:
        options = {"aux_logits": False, "init_weights": True, "transform_input": True}
    create = partial(torchvision.models.get_model, name, weights=None, num_classes=class_num, **options)
    return _make(name, size, create)


def _make(name: str, size: int, create: Callable[[], nn.Module]) -> nn.Module:
    try:
        return create()
    except (AssertionError, ValueError, RuntimeError) as fault:  # both libraries raise these for an unfit size
        reason = " ".join(str(fault).split())[:200]
        raise BadInput(
            f"{name} cannot be made for images of {size} pixels (train.preprocess.side): {reason}"
        ) from fault
