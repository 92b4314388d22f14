"""The public networks that fold_zoo takes: in what order, at what size, and what hooks alone tell of one.

Beside the classifiers that `train.arch` names these are torchvision's networks for other tasks, where they take
images and give tensors: segmentation, and the classifiers that are made to be quantized.
"""

import collections
import zlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from steps.models import zoos
from steps.models.architectures import create
from steps.tracing.copies import copied
from steps.tracing.example import SIZES

LARGEST = 60_000_000
LEAST = 64  # pixels
CLASSES = 10
OF_IMAGES = ("segmentation", "quantization")  # torchvision's modules beside the classifiers


def by_family() -> list[str]:
    """Return all networks, the first of each family (a module of its library), then the second of each, ..."""
    import timm
    import torchvision

    makers = {f"timm:{name}": timm.model_entrypoint(name) for name in zoos.timm_names()}
    for name in torchvision.models.list_models():
        makers[f"torchvision:{name}"] = torchvision.models.get_model_builder(name)
    families: dict[str, list[str]] = collections.defaultdict(list)
    for name in sorted(makers, key=lambda name: zlib.crc32(name.encode())):
        families[makers[name].__module__].append(name)
    ranked = [(rank, name) for names in families.values() for rank, name in enumerate(names)]
    return [name for _, name in sorted(ranked)]


def task_of(name: str) -> str:
    """Return the module of torchvision that a network for another task is from, or "" for a classifier's name."""
    import torchvision

    library, _, name = name.partition(":")
    if library != "torchvision" or name in zoos.torchvision_names():
        return ""
    module: str = torchvision.models.get_model_builder(name).__module__
    return module.split(".")[2]


def made(name: str, size: int) -> nn.Module:
    """Return the network with fresh weights, as `train.arch` makes it where it can name it."""
    task = task_of(name)
    if not task:
        return create(name, CLASSES, size)
    import torchvision

    library_name = name.partition(":")[2]
    plain_name = library_name.removeprefix("quantized_")
    options = {"aux_logits": False, "init_weights": True} if plain_name in zoos.AUXILIARY else {}
    backbone = {"weights_backbone": None} if task == "segmentation" else {}  # else its weights would be fetched
    network: nn.Module = torchvision.models.get_model(
        library_name, weights=None, num_classes=CLASSES, **options, **backbone
    )
    return network


def in_shard(names: list[str], shard: str) -> Iterator[str]:
    """Yield the networks of one shard, written as number/count."""
    number, count = map(int, shard.split("/"))
    yield from names[number::count]


def built(name: str) -> tuple[nn.Module, int] | None:
    """Return the network and the least size from 64 px on that it takes; None where it is too large.

    Raises RuntimeError where it takes no image, not even of the size that its library made it for.
    """
    with torch.device("meta"):
        try:
            parameters = _parameters(made(name, 224))
        except Exception:  # not every network is made without numbers, or for this size
            parameters = 0
    if parameters > LARGEST:
        return None
    faults = []
    for size in sorted({*SIZES, _own_size(name)} - set(range(LEAST))):
        try:
            network = made(name, size)
        except Exception as fault:  # whatever a library raises on a size that its network is not made for
            faults.append(f"{size} px: {' '.join(str(fault).split())[:120]}")
            continue
        if _parameters(network) > LARGEST:
            return None
        refusal = _refusal(copied(network).eval(), size)
        if not refusal:
            return network, size
        faults.append(f"{size} px: {refusal}")
    raise RuntimeError(f"it takes no image: {'; '.join(faults)}")


@torch.no_grad()
def handed_over(network: nn.Module, image_NCHW: Tensor) -> int:
    """Return how many convolutions give their very output to a batch norm: what `expand` should find, or say why.

    Told by hooks alone, in float32 and eval mode, so that a pairing that misses some is seen to.
    """
    watched = copied(network).float().eval()
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensors too: a freed one's id would be given to another
    givers: set[str] = set()

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            outputs[id(output)] = name, output

        return hook

    def look(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and id(inputs[0]) in outputs:
            givers.add(outputs[id(inputs[0])][0])

    for name, module in watched.named_modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note(name))
        elif isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(look)
    watched(image_NCHW.float())
    return len(givers)


@torch.no_grad()
def _refusal(network: nn.Module, size: int) -> str:
    """Return what the network says against an image of this size, or ""."""
    try:
        network(torch.zeros(1, 3, size, size))
    except Exception as fault:  # whatever a network raises on a size that it does not take
        return f"{type(fault).__name__}: {' '.join(str(fault).split())[:120]}"
    return ""


def _own_size(name: str) -> int:
    """Return the size in pixels that timm made a network for; torchvision's sizes are among the usual ones."""
    import timm

    library, _, name = name.partition(":")
    config = timm.get_pretrained_cfg(name) if library == "timm" else None
    return config.input_size[-1] if config is not None else SIZES[-1]


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
