"""Load pretrained weights into a network: count and report the coverage, and refuse a coverage that is too low."""

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

# The keys of state dicts in checkpoints. Averaged weights come last: they count only if there are no others.
INSIDE = ("state_dict", "model_state_dict", "model", "net", "network", "state_dict_ema", "model_ema")
DEEPEST = 4  # the deepest nesting of these keys; checkpoints use one or two levels
# The prefixes that DataParallel, torch.compile, Lightning and self-supervised training add, in any order.
WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")
AVERAGED = "n_averaged"  # the counter of torch's AveragedModel
# The second heads of GoogLeNet and Inception-v3 in torchvision's files: both networks are made without them.
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # torch's error messages have bold text
COUNTERS = "num_batches_tracked"  # does not change a network's outputs; old files lack it


def load_weights(network: nn.Module, path: Path, min_coverage: float) -> WeightsCoverage:
    """Fill the plain network from a file or folder of weights and return the coverage.

    `coverage` is the share of the network's tensors that the file fills. `used` is the share of the file's tensors
    that the network has: the file of a larger network may fill all of this network. If the file has no last layer
    of the network's shape, the last layer keeps its new weights, does not count, and a message says so. The file's
    auxiliary heads do not count in `used`. A vision transformer's position embedding is interpolated to the
    network's input size. Raises BadInput for tensors that are no plain numbers. Raises Refused, and leaves the
    network unchanged, if a weight is not finite, if a share is under `min_coverage`, or if a transformer's
    positions do not fit.
    """
    file_tensors = _unwrapped(read_weights(path), network)
    refuse_odd_tensors(file_tensors, path)
    tensors, interpolated = fitted(network, file_tensors)
    coverage = cover(network, tensors).model_copy(update={"interpolated": interpolated})
    if min(coverage.coverage, coverage.used) < min_coverage:
        raise Refused(_low_coverage(network, path, coverage, min_coverage), TrainReport(weights=coverage))
    _refuse_unfit_positions(network, path, coverage, tensors)
    left_out = {*coverage.missing, *coverage.unexpected, *coverage.other_shape}
    network.load_state_dict({key: value for key, value in tensors.items() if key not in left_out}, strict=False)
    say(f"train: {path} fills {coverage.coverage:.1%} of the network: {_counts(coverage)}.")
    if coverage.head_replaced:
        say(f"train: {_new_heads(network, coverage)}.")
    return coverage


def cover(network: nn.Module, tensors: Mapping[str, Tensor]) -> WeightsCoverage:
    """Return the coverage of the network by these tensors."""
    state = {key: value for key, value in network.state_dict().items() if not key.endswith(COUNTERS)}
    missing = [key for key in state if key not in tensors]
    other_shape = [key for key in state if key in tensors and not _fits(tensors[key], state[key])]
    unexpected = [key for key in tensors if key not in state and not key.endswith(COUNTERS)]
    heads = tuple(f"{name}." for name in head_names(network))
    not_filled = {*missing, *other_shape}
    new_head = [key for key in not_filled if key.startswith(heads)]
    auxiliary = [key for key in unexpected if key.startswith(AUXILIARY)]
    unused = [key for key in unexpected if not key.startswith((*heads, *AUXILIARY))]
    usable = len(tensors) - len(auxiliary)
    counted = len(state) - len(new_head)
    loaded = len(state) - len(not_filled)
    return WeightsCoverage(
        loaded=loaded,
        missing=tuple(missing),
        unexpected=tuple(unexpected),
        other_shape=tuple(other_shape),
        coverage=loaded / counted if counted else 0.0,
        used=1 - len(unused) / usable if usable else 0.0,
        head_replaced=bool(new_head),
    )


def _fits(source: Tensor, target: Tensor) -> bool:
    """Return whether `source` can be copied to `target`; integers are quantised values and do not fit a weight."""
    return source.shape == target.shape and source.is_floating_point() == target.is_floating_point()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file or folder, or raise BadInput; code in a file is never run.

    A file is safetensors, .pdparams (PaddlePaddle), or else a torch file. A folder is a static graph of Paddle.
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
    """Return the content of a torch file, or raise BadInput; on "meta" its tensors have shapes but no numbers."""
    try:
        with warnings.catch_warnings(action="ignore"):  # `refuse_odd_tensors` names odd tensors later
            return torch.load(path, map_location=device, weights_only=True)
    except Exception as fault:  # torch raises pickle, zip, runtime and key errors here
        if device == "meta":
            return load_torch(path, "cpu")  # sparse and quantised tensors cannot be loaded to meta
        message = ANSI.sub("", str(fault)).strip()
        reason = message.splitlines()[0] if message else type(fault).__name__
        raise BadInput(f"{path} is no file of plain weights ({reason[:200]}); save a state_dict in it.") from fault


def weights_checksum(path: Path) -> str:
    """Return one sha256 of a weights file, or of the names and contents of a folder's files."""
    if not path.is_dir():
        return sha256(path)
    return artifact_checksum({file.name: sha256(file) for file in sorted(path.iterdir()) if file.is_file()})


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint: the content itself, or the value under a key of INSIDE."""
    for candidate in _candidates(content):
        if isinstance(candidate, dict) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return {str(key): value for key, value in candidate.items()}
    found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
    raise BadInput(f"{path} has no state dict, also not under {', '.join(INSIDE)}; the file holds {found[:200]}.")


def _candidates(content: Any, depth: int = 0) -> Iterator[Any]:
    """Yield the content and the values under the keys of INSIDE, to a fixed depth: a pickle may contain itself."""
    yield content
    if isinstance(content, dict) and depth < DEEPEST:
        for key in INSIDE:
            if key in content:
                yield from _candidates(content[key], depth + 1)


def _unwrapped(tensors: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return the tensors under the network's keys, without the prefixes that wrappers put before every key."""
    if any(key in tensors for key in network.state_dict()):
        return tensors
    weights = {key: value for key, value in tensors.items() if key != AVERAGED}
    for prefix in WRAPPERS:
        if weights and all(key.startswith(prefix) for key in weights):
            return _unwrapped({key.removeprefix(prefix): value for key, value in weights.items()}, network)
    return weights


def _refuse_unfit_positions(
    network: nn.Module, path: Path, coverage: WeightsCoverage, tensors: Mapping[str, Tensor]
) -> None:
    """Raise Refused if a transformer's positions do not fit; their share is too small to lower the coverage."""
    unfit = [key for key in coverage.other_shape if are_positions(key)]
    if unfit:
        in_file, in_network = tuple(tensors[unfit[0]].shape), tuple(network.state_dict()[unfit[0]].shape)
        raise Refused(
            f"{path}: {unfit[0]} has the positions of the patches for {type(network).__name__}; its shape is "
            f"{in_file}, the network needs {in_network}, and interpolation is not possible ({len(unfit)} such "
            "tensors in total). Set train.preprocess.side to the image size that these weights were trained with.",
            TrainReport(weights=coverage),
        )


def _low_coverage(network: nn.Module, path: Path, coverage: WeightsCoverage, bound: float) -> str:
    """Return the message for the share that is below the bound."""
    share = f"fills {coverage.coverage:.1%} of {type(network).__name__}'s tensors"
    if coverage.coverage >= bound:
        share = f"has tensors of which {type(network).__name__} uses {coverage.used:.1%}"
    return (
        f"{path} {share}, and train.min_weights_coverage asks for {bound:.1%}: {_counts(coverage)}. "
        "Set train.arch to the network of these weights."
    )


def _new_heads(network: nn.Module, coverage: WeightsCoverage) -> str:
    """Return the message about the last layers that keep their new weights; the file may have some of them."""
    not_filled = (*coverage.missing, *coverage.other_shape)
    new = [name for name in head_names(network) if any(key.startswith(f"{name}.") for key in not_filled)]
    if len(new) == 1:
        return f"the last layer ({new[0]}) starts with new weights: the file has no last layer of this shape"
    return (
        f"the last layers ({', '.join(new)}) start with new weights: the file has no last layers of these shapes"
    )


def _counts(coverage: WeightsCoverage) -> str:
    kinds = {
        "missing": coverage.missing,
        "unexpected": coverage.unexpected,
        "of another shape or type": coverage.other_shape,
        "interpolated to this input size": coverage.interpolated,
    }
    parts = [f"{coverage.loaded} loaded"]
    parts += [f"{len(keys)} {kind} ({', '.join(keys[:3])})" for kind, keys in kinds.items() if keys]
    return ", ".join(parts)
