"""A model artifact in PyTorch form: model.safetensors, card.json, probes.npz. No pickle is read.

Letters: N images, H and W pixels, C = 3 channels (RGB).
"""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from steps.errors import BadInput
from steps.models.architectures import create
from steps.models.heads import add_bottleneck
from steps.models.normalised import Normalised, normalised
from steps.reparam.expand import Mode, expand
from steps.reparam.fold import absorb_branch_norms, absorb_norms
from steps.reparam.library_blocks import library_form
from steps.reports.artifact import PROBES, read_verified_card, write_card
from steps.reports.card import Card

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class ProbeImages:
    """A few real images at the network's size, with their manifest names and their labels."""

    images_NHWC_u8: npt.NDArray[np.uint8]
    names: tuple[str, ...]
    labels: tuple[int, ...]


def save_model(folder: Path, network: nn.Module, card: Card, probes: ProbeImages) -> Card:
    """Write the artifact and return its card, with the checksums of the files.

    The same network gives the same bytes: tensors are sorted by name, and the file has no metadata.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = network.state_dict()
    tensors = {name: state[name].detach().cpu().contiguous().clone() for name in sorted(state)}
    (folder / WEIGHTS).write_bytes(save(tensors))  # save_file would make the file unreadable for others
    save_probes(folder, probes)
    return write_card(folder, card)


def load_model(folder: Path) -> tuple[nn.Module, Card]:
    """Return the network, in eval mode, and its card; the network takes normalised float images_NCHW.

    Raises BadInput if a checksum, a key or a shape differs from the card or from its architecture.
    """
    card = read_verified_card(folder)
    if WEIGHTS not in card.files:
        raise BadInput(f"{folder} has no {WEIGHTS}: the form '{card.form}' is no PyTorch model.")
    network = rebuild(card)
    _load_strictly(network, read_safetensors(folder / WEIGHTS), folder, card)
    return network, card


def load_classifier(folder: Path) -> tuple[Normalised, Card]:
    """Return the network with its normalisation inside, in eval mode: images_NHWC_u8 to logits_NK."""
    network, card = load_model(folder)
    return normalised(network, card.preprocessing).eval(), card


def rebuild(card: Card) -> nn.Module:
    """Return the network that the card describes, with new weights, in eval mode."""
    network = create(card.arch, card.class_num, card.preprocessing.size).eval()
    if card.bottleneck is not None:
        add_bottleneck(network, card.bottleneck)
    size = card.preprocessing.size
    example_NCHW = torch.zeros(1, 3, size, size)
    if card.expansion is not None:
        expansion = card.expansion
        expand(
            network, expansion.block, expansion.where, mode=cast(Mode, expansion.mode), example_NCHW=example_NCHW
        )
        if expansion.norms == "absorbed":
            return absorb_branch_norms(network, example_NCHW)
    return absorb_norms(library_form(network), example_NCHW) if card.fused else network


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, or raise BadInput for any other file."""
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as fault:
        raise BadInput(f"{path} is no safetensors file ({fault}); pickles are not read.") from fault
    return tensors


def save_probes(folder: Path, probes: ProbeImages) -> None:
    """Write probes.npz; not with np.savez, because its zip headers differ between Python versions."""
    assert probes.images_NHWC_u8.dtype == np.uint8 and probes.images_NHWC_u8.shape[3] == 3
    arrays = {
        "images_NHWC_u8": probes.images_NHWC_u8,
        "names": np.array(probes.names, dtype=np.str_),
        "labels": np.array(probes.labels, dtype=np.int64),
    }
    with zipfile.ZipFile(folder / PROBES, "w") as file:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())


def load_probes(folder: Path) -> ProbeImages:
    """Return the artifact's probe images, or raise BadInput."""
    try:
        with np.load(folder / PROBES, allow_pickle=False) as file:
            names = tuple(str(name) for name in file["names"])
            labels = tuple(int(label) for label in file["labels"])
            return ProbeImages(file["images_NHWC_u8"], names, labels)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as fault:
        raise BadInput(f"{folder / PROBES} is missing or has no probe images: {fault}.") from fault


def _load_strictly(network: nn.Module, tensors: dict[str, Tensor], folder: Path, card: Card) -> None:
    state = network.state_dict()
    faults = {
        "missing": sorted(state.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - state.keys()),
        "of another shape": sorted(
            key for key in state.keys() & tensors.keys() if state[key].shape != tensors[key].shape
        ),
    }
    reasons = [f"{len(keys)} {kind} ({', '.join(keys[:3])}, ...)" for kind, keys in faults.items() if keys]
    if reasons:
        raise BadInput(f"{folder / WEIGHTS} does not fit the {card.arch} of its card: {'; '.join(reasons)}.")
    network.load_state_dict(tensors, strict=True)
