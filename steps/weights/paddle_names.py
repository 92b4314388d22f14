"""Map the tensor names of a PaddleClas ResNet_vd to those of timm's resnet*d, for all three naming schemes.

Static graph: `res2a_branch2a_weights`, `bn2a_branch2a_scale`, `fc_0.w_0`; dygraph of PaddlePaddle 1.8:
`bb_0_0.conv0._conv.weight`, `out.weight`; since 2.0: `blocks.0.conv0.conv.weight`, `fc.weight`.
Letters: I inputs, O outputs of a linear layer. Paddle stores its weight as IO, torch as OI.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from steps.weights.array_pickle import Array

Names = Mapping[str, str]  # the named groups of a pattern
STATIC_PARTS = {
    "weights": "weight",
    "scale": "weight",
    "offset": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
PARTS = {"weight": "weight", "bias": "bias", "_mean": "running_mean", "_variance": "running_var"}
HEAD_PARTS = {"w_0": "weight", "b_0": "bias", "weight": "weight", "bias": "bias"}
STEM = {"conv": ("conv1.0", "conv1.3", "conv1.6"), "bn": ("conv1.1", "conv1.4", "bn1")}
BRANCHES = {"2a": "{}1", "2b": "{}2", "2c": "{}3", "conv0": "{}1", "conv1": "{}2", "conv2": "{}3"}
BOTTLENECKS = (
    "_branch2c_weights",
    ".conv2._conv.weight",
    ".conv2.conv.weight",
)  # basic blocks have other keys in timm
FIRST_OF_STAGE = re.compile(r"blocks\.\d+\.short\.conv\.weight")
SHORTCUT = {"conv": "downsample.1", "bn": "downsample.2"}

_PART = rf"(?P<part>{'|'.join(STATIC_PARTS)})"
_SINCE_18 = r"\._(?P<kind>conv|batch_norm)\.(?P<part>weight|bias|_mean|_variance)"
_SINCE_20 = r"\.(?P<kind>conv|bn)\.(?P<part>weight|bias|_mean|_variance)"
_BRANCH = r"(?P<branch>conv[012]|short)"


def under_torch_names(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    """Return the tensors under timm's names if they are of a ResNet_vd with 50 or more layers, else under torch's.

    The weights of linear layers are transposed. An unknown name is not changed; coverage then counts the tensor as
    unexpected.
    """
    rename = _vd_name if any(key.endswith(BOTTLENECKS) for key in arrays) else _torch_name
    first_blocks = sorted(int(key.split(".")[1]) for key in arrays if FIRST_OF_STAGE.fullmatch(key))
    return {rename(key, first_blocks): _tensor(key, array) for key, array in arrays.items()}


def _vd_name(key: str, first_blocks: list[int]) -> str:
    for pattern, name in RULES.items():
        found = re.fullmatch(pattern, key)
        if found:
            return name(found.groupdict(), first_blocks)
    return _torch_name(key, first_blocks)


def _torch_name(key: str, _: list[int]) -> str:
    for paddle_end, torch_end in (("._mean", ".running_mean"), ("._variance", ".running_var")):
        key = f"{key.removesuffix(paddle_end)}{torch_end}" if key.endswith(paddle_end) else key
    return key


def _static_stem(names: Names, _: list[int]) -> str:
    kind = "conv" if names["part"] == "weights" else "bn"
    return f"{STEM[kind][int(names['index']) - 1]}.{STATIC_PARTS[names['part']]}"


def _static_block(names: Names, _: list[int]) -> str:
    kind = "conv" if names["part"] == "weights" else "bn"
    block = int(names["number"] or ord(names["letter"]) - ord("a"))  # a, b, c; in deep stages a, b1, b2
    return _block(int(names["stage"]) - 1, block, names["branch"], kind, STATIC_PARTS[names["part"]])


def _old_stem(names: Names, _: list[int]) -> str:
    return f"{STEM[_kind(names)][int(names['index']) - 1]}.{PARTS[names['part']]}"


def _old_block(names: Names, _: list[int]) -> str:
    return _block(
        int(names["stage"]) + 1, int(names["block"]), names["branch"], _kind(names), PARTS[names["part"]]
    )


def _new_stem(names: Names, _: list[int]) -> str:
    return f"{STEM[_kind(names)][int(names['index'])]}.{PARTS[names['part']]}"


def _new_block(names: Names, first_blocks: list[int]) -> str:
    number = int(names["block"])
    stage = sum(first <= number for first in first_blocks)
    block = number - first_blocks[stage - 1] if stage else number
    return _block(stage, block, names["branch"], _kind(names), PARTS[names["part"]])


def _head(names: Names, _: list[int]) -> str:
    return f"fc.{HEAD_PARTS[names['part']]}"


def _kind(names: Names) -> str:
    return "conv" if names["kind"] == "conv" else "bn"


def _block(stage: int, block: int, branch: str, kind: str, part: str) -> str:
    layer = BRANCHES[branch].format(kind) if branch in BRANCHES else SHORTCUT[kind]
    return f"layer{stage}.{block}.{layer}.{part}"


RULES: dict[str, Callable[[Names, list[int]], str]] = {
    rf"(conv|bnv)1_(?P<index>[123])_{_PART}": _static_stem,
    rf"(res|bn)(?P<stage>[2-5])(?P<letter>[a-z])(?P<number>\d*)_branch(?P<branch>1|2[abc])_{_PART}": _static_block,
    rf"conv1_(?P<index>[123]){_SINCE_18}": _old_stem,
    rf"bb_(?P<stage>[0-3])_(?P<block>\d+)\.{_BRANCH}{_SINCE_18}": _old_block,
    rf"stem\.(?P<index>[012]){_SINCE_20}": _new_stem,
    rf"blocks\.(?P<block>\d+)\.{_BRANCH}{_SINCE_20}": _new_block,
    r"(fc_0|out|fc)\.(?P<part>w_0|b_0|weight|bias)": _head,
}


def _tensor(key: str, array: Array) -> Tensor:
    """Return the array as a new tensor; the weight of a linear layer in torch's order OI."""
    linear = array.ndim == 2 and key.endswith((".weight", ".w_0"))
    return torch.from_numpy(np.array(array.T if linear else array, order="C"))
