"""The networks of timm and torchvision, always without weights: nothing here reaches for the network."""

from typing import Any

import timm
import torchvision
from torch import nn

AUXILIARY = ("googlenet", "inception_v3")  # their second heads would change what a forward returns


def timm_names() -> list[str]:
    """Return the networks that timm knows."""
    return list(timm.list_models())


def torchvision_names() -> list[str]:
    """Return the classifiers that torchvision knows."""
    return list(torchvision.models.list_models(module=torchvision.models))


def create_timm(name: str, class_num: int, size: int) -> nn.Module:
    """Return a timm network; one bound to an input size (a ViT) is made for `size`."""
    config = timm.get_pretrained_cfg(name)
    bound: dict[str, Any] = {"img_size": size} if config is not None and config.fixed_input_size else {}
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=class_num, **bound)
    return network


def create_torchvision(name: str, class_num: int, size: int) -> nn.Module:
    """Return a torchvision network; auxiliary heads are left out."""
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options = {"image_size": size}
    elif name in AUXILIARY:
        options = {"aux_logits": False, "init_weights": True}
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=class_num, **options)
    return network
