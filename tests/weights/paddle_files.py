"""PaddlePaddle's files, written without PaddlePaddle: the same tensors with each of its namings and formats."""

import pickle
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float32]
DEPTHS = (3, 4, 6, 3)
CODES = {"float32": 5, "float64": 6, "int64": 3}
NAMINGS = ("static", "1.8", "2.0")


def convolutions(naming: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield timm's and Paddle's names of each convolution of a ResNet50_vd and of its batch norm."""
    stem = (("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1"))
    for number, (conv, norm) in enumerate(stem):
        yield conv, norm, *_stem(naming, number)
    flat = 0
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            where = f"layer{stage + 1}.{block}"
            for layer in range(3):
                theirs = _block(naming, stage, block, flat, f"2{'abc'[layer]}", f"conv{layer}")
                yield f"{where}.conv{layer + 1}", f"{where}.bn{layer + 1}", *theirs
            if block == 0:
                theirs = _block(naming, stage, block, flat, "1", "short")
                yield f"{where}.downsample.1", f"{where}.downsample.2", *theirs
            flat += 1


def _stem(naming: str, number: int) -> tuple[str, str]:
    if naming == "static":
        return f"conv1_{number + 1}", f"bnv1_{number + 1}"
    if naming == "1.8":
        return f"conv1_{number + 1}._conv", f"conv1_{number + 1}._batch_norm"
    return f"stem.{number}.conv", f"stem.{number}.bn"


def _block(naming: str, stage: int, block: int, flat: int, static: str, dygraph: str) -> tuple[str, str]:
    if naming == "static":
        place = f"{stage + 2}{'abcdef'[block]}_branch{static}"
        return f"res{place}", f"bn{place}"
    if naming == "1.8":
        place = f"bb_{stage}_{block}.{dygraph}"
        return f"{place}._conv", f"{place}._batch_norm"
    return f"blocks.{flat}.{dygraph}.conv", f"blocks.{flat}.{dygraph}.bn"


def as_paddle(state: dict[str, Tensor], naming: str) -> dict[str, Array]:
    """Return the tensors of timm's resnet50d with the names and shapes of PaddleClas."""
    conv_part = "_weights" if naming == "static" else ".weight"
    norm_parts = ("_scale", "_offset", "_mean", "_variance")
    if naming != "static":
        norm_parts = (".weight", ".bias", "._mean", "._variance")
    arrays = {}
    for conv, norm, their_conv, their_norm in convolutions(naming):
        arrays[their_conv + conv_part] = state[f"{conv}.weight"].numpy()
        for part, ours in zip(norm_parts, ("weight", "bias", "running_mean", "running_var"), strict=True):
            arrays[their_norm + part] = state[f"{norm}.{ours}"].numpy()
    head = {"static": ("fc_0.w_0", "fc_0.b_0"), "1.8": ("out.weight", "out.bias")}
    kernel, bias = head.get(naming, ("fc.weight", "fc.bias"))
    return arrays | {kernel: np.ascontiguousarray(state["fc.weight"].numpy().T), bias: state["fc.bias"].numpy()}


def write_pdparams(path: Path, arrays: dict[str, Array], protocol: int = 4) -> None:
    """Write a state dict in the format of paddle.save."""
    table = {"StructuredToParameterName@@": {name: f"parameter_{n}" for n, name in enumerate(arrays)}}
    path.write_bytes(pickle.dumps(arrays | table, protocol=protocol))


def variable(array: Array, levels: tuple[bytes, ...] = ()) -> bytes:
    """Return one variable in the format of Paddle's save operator."""
    description = b"\x08" + bytes([CODES[str(array.dtype)]])
    for side in array.shape:
        description += b"\x10" + _varint(side)
    content = struct.pack("<IQ", 0, len(levels))
    for level in levels:
        content += struct.pack("<Q", len(level)) + level
    return content + struct.pack("<Ii", 0, len(description)) + description + array.tobytes()


def _varint(value: int) -> bytes:
    content = b""
    while value > 127:
        content += bytes([value & 127 | 128])
        value >>= 7
    return content + bytes([value])


def write_folder(folder: Path, arrays: dict[str, Array]) -> None:
    """Write the files of fluid.io.save_persistables: one file a variable, and the program."""
    folder.mkdir()
    (folder / "__model__").write_bytes(b"a program")
    for name, array in arrays.items():
        (folder / name).write_bytes(variable(array))
