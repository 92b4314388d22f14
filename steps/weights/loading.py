"""Weights from elsewhere into a network: what they cover is counted and said, and too little is refused."""

import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from steps.errors import BadInput, Refused
from steps.files import sha256
from steps.models.files import read_safetensors
from steps.models.heads import head_names
from steps.progress import say
from steps.reports.artifact import artifact_checksum
from steps.reports.train import TrainReport, WeightsCoverage
from steps.weights.paddle import read_pdparams, read_variables
from steps.weights.plain_tensors import refuse_odd_tensors
from steps.weights.positions import are_positions, fitted

# Where checkpoints keep their tensors, the averaged ones last: they are never taken for the others unasked.
INSIDE = ("state_dict", "model_state_dict", "model", "net", "network", "state_dict_ema", "model_ema")
DEEPEST = 4  # checkpoints keep a state dict one or two such names down
# What DataParallel, torch.compile, Lightning and self-supervised training put before each name, in any order.
WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")
AVERAGED = "n_averaged"  # how many networks torch's AveragedModel has averaged
# GoogLeNet's and Inception-v3's second heads, in torchvision's files: both networks are made without them.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # torch prints its advice in bold
COUNTERS = "num_batches_tracked"  # says nothing about what a network computes; old files lack it


def load_weights(network: nn.Module, path: Path, min_coverage: float) -> WeightsCoverage:
    """Fill the plain network from a file or folder of weights and return what was filled.

    Coverage is the share of the network's tensors that the file fills; `used` is the share of the file's tensors
    that the network has a place for: a larger network's file may fill this one wholly. A last layer of another
    shape, or one that the file does not have, keeps its fresh weights, is left out of the count and is said; the
    file's auxiliary heads are left out of `used`. A vision transformer's position embedding is interpolated
    to the network's input size. Raises BadInput for tensors that are no plain numbers, and Refused when a weight
    is not finite, when either share is under `min_coverage`, or when what tells a transformer places does not
    fit; the network is then unchanged.
    """
    read = _unwrapped(read_weights(path), network)
    refuse_odd_tensors(read, path)
    tensors, interpolated = fitted(network, read)
    coverage = cover(network, tensors).model_copy(update={"interpolated": interpolated})
    if min(coverage.coverage, coverage.used) < min_coverage:
        raise Refused(_too_little(network, path, coverage, min_coverage), TrainReport(weights=coverage))
    _refuse_lost_places(network, path, coverage, tensors)
    left = {*coverage.missing, *coverage.unexpected, *coverage.other_shape}
    network.load_state_dict({key: value for key, value in tensors.items() if key not in left}, strict=False)
    say(f"train: {path} fills {coverage.coverage:.1%} of the network: {_said(coverage)}.")
    if coverage.head_replaced:
        say(f"train: {_fresh_heads(network, coverage)}.")
    return coverage


def cover(network: nn.Module, tensors: Mapping[str, Tensor]) -> WeightsCoverage:
    """Return which of the network's tensors these would fill."""
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith(COUNTERS)}
    missing = [key for key in wanted if key not in tensors]
    other_shape = [key for key in wanted if key in tensors and not _fits(tensors[key], wanted[key])]
    unexpected = [key for key in tensors if key not in wanted and not key.endswith(COUNTERS)]
    heads = tuple(f"{name}." for name in head_names(network))
    not_filled = {*missing, *other_shape}
    fresh_head = [key for key in not_filled if key.startswith(heads)]
    on_purpose = [key for key in unexpected if key.startswith(AUXILIARY)]
    strangers = [key for key in unexpected if not key.startswith((*heads, *AUXILIARY))]
    given = len(tensors) - len(on_purpose)
    counted = len(wanted) - len(fresh_head)
    loaded = len(wanted) - len(not_filled)
    return WeightsCoverage(
        loaded=loaded,
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        other_shape=tuple(other_shape),
        coverage=loaded / counted if counted else 0.0,
        used=1 - len(strangers) / given if given else 0.0,
        head_replaced=bool(fresh_head),
    )


def _fits(given: Tensor, wanted: Tensor) -> bool:
    """Whether one tensor can be copied into the other; whole numbers in a weight's place are quantised ones."""
    return given.shape == wanted.shape and given.is_floating_point() == wanted.is_floating_point()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file or folder, or raise BadInput; code in a file is never run.

    A file is safetensors, .pdparams (PaddlePaddle's), or else torch's; a folder is a Paddle static graph's.
    """
    if path.is_dir():
        return read_variables(path)
    if not path.is_file():
        raise BadInput(f"train.weights: {path} is not there.")
    if path.suffix == ".pdparams":
        return read_pdparams(path)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    return _tensors(load_torch(path, "cpu"), path)


def load_torch(path: Path, device: Literal["cpu", "meta"]) -> Any:
    """Return what a torch file holds, its tensors without their numbers on "meta", or raise BadInput."""
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # of kinds of tensors that are refused, by name, all the same
            return torch.load(path, map_location=device, weights_only=True)
    except Exception as fault:  # torch raises pickle, zip, runtime and key errors here
        if device == "meta":
            return load_torch(path, "cpu")  # sparse and quantised tensors cannot be there
        said = ANSI.sub("", str(fault)).strip()
        reason = said.splitlines()[0] if said else type(fault).__name__
        raise BadInput(f"{path} is no file of plain weights ({reason[:200]}); save a state_dict in it.") from fault


def weights_checksum(path: Path) -> str:
    """Return one sha256 over a file of weights, or over the names and contents of a folder's files."""
    if not path.is_dir():
        return sha256(path)
    return artifact_checksum({file.name: sha256(file) for file in sorted(path.iterdir()) if file.is_file()})


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint: the content itself, or what it keeps under a known name."""
    for candidate in _candidates(content):
        if isinstance(candidate, dict) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return {str(key): value for key, value in candidate.items()}
    found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
    raise BadInput(f"{path} holds no state dict, nor one under {', '.join(INSIDE)}; it holds {found[:200]}.")


def _candidates(content: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the content, and what lies in it under the known names, to a depth that nobody needs.

    A pickle may hold itself.
    """
    yield content
    if isinstance(content, dict) and depth < DEEPEST:
        for key in INSIDE:
            if key in content:
                yield from _candidates(content[key], depth + 1)


def _unwrapped(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors under the network's own names: what wraps it puts the same before each of them."""
    if any(key in tensors for key in network.state_dict()):
        return tensors
    bare = {key: value for key, value in tensors.items() if key != AVERAGED}
    for prefix in WRAPPERS:
        if bare and all(key.startswith(prefix) for key in bare):
            return _unwrapped({key.removeprefix(prefix): value for key, value in bare.items()}, network)
    return bare


def _refuse_lost_places(
    network: nn.Module, path: Path, coverage: WeightsCoverage, tensors: Mapping[str, Tensor]
) -> None:
    """Refuse to let a transformer start without the places that it learnt: a share that no coverage shows."""
    lost = [key for key in coverage.other_shape if are_positions(key)]
    if lost:
        theirs, ours = tuple(tensors[lost[0]].shape), tuple(network.state_dict()[lost[0]].shape)
        raise Refused(
            f"{path}: {lost[0]} tells {type(network).__name__} where its patches lie; it has the shape {theirs}, "
            f"the network wants {ours}, and it cannot be interpolated ({len(lost)} such in all). Set "
            "train.preprocess.side to the size of images that these weights were made with.",
            TrainReport(weights=coverage),
        )


def _too_little(network: nn.Module, path: Path, coverage: WeightsCoverage, bound: float) -> str:
    """Say which of the two shares is too small."""
    what = f"fills {coverage.coverage:.1%} of {type(network).__name__}'s tensors"
    if coverage.coverage >= bound:
        what = f"has a place in {type(network).__name__} for {coverage.used:.1%} of its own tensors"
    return (
        f"{path} {what}, and train.min_weights_coverage asks for {bound:.1%}: {_said(coverage)}. "
        "Is train.arch the network that these weights are of?"
    )


def _fresh_heads(network: nn.Module, coverage: WeightsCoverage) -> str:
    """Say which last layers kept their fresh weights: of several, the file may have one."""
    not_filled = (*coverage.missing, *coverage.other_shape)
    fresh = [name for name in head_names(network) if any(key.startswith(f"{name}.") for key in not_filled)]
    if len(fresh) == 1:
        return f"the last layer ({fresh[0]}) starts fresh: the file has none of its shape"
    return f"the last layers ({', '.join(fresh)}) start fresh: the file has none of their shapes"


def _said(coverage: WeightsCoverage) -> str:
    counts = {
        "missing": coverage.missing,
        "unexpected": coverage.unexpected,
        "of another shape or type": coverage.other_shape,
        "interpolated to this input size": coverage.interpolated,
    }
    said = [f"{coverage.loaded} loaded"]
    said += [f"{len(keys)} {kind} ({', '.join(keys[:3])})" for kind, keys in counts.items() if keys]
    return ", ".join(said)
