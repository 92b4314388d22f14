"""Read PaddlePaddle's weights: .pdparams files, and static-graph folders with one file per variable."""

import re
import struct
from pathlib import Path

import numpy as np
from torch import Tensor

from steps.errors import BadInput
from steps.weights.array_pickle import Array, NotArrays, read_arrays
from steps.weights.paddle_names import under_torch_names

NAMES_TABLE = "StructuredToParameterName@@"  # a table in .pdparams files that is no weight
SLICES_TABLE = "UnpackBigParamInfor@@"
HINT = "write it with paddle.save(network.state_dict(), path, protocol=4)"
# framework.proto, VarType.Type
DTYPES = {0: "b1", 1: "<i2", 2: "<i4", 3: "<i8", 4: "<f2", 5: "<f4", 6: "<f8", 20: "u1", 21: "i1"}
NO_WEIGHTS = re.compile(
    r"__.*|@.*|learning_rate_\d+|.*_(velocity|moment\d?|beta\d_pow_acc)_\d+|.*\.(json|yaml|md)"
)


def read_pdparams(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .pdparams file, or raise BadInput; code that its pickle names is never run."""
    try:
        content = read_arrays(path.read_bytes())
    except NotArrays as fault:
        raise BadInput(f"{path} is no pickle of only arrays ({str(fault)[:200]}); {HINT}.") from fault
    if not isinstance(content, dict) or SLICES_TABLE in content:
        raise BadInput(f"{path} has no dict of whole arrays; {HINT}.")
    arrays = {str(key): value for key, value in content.items() if key != NAMES_TABLE}
    wrong = [key for key, value in arrays.items() if not isinstance(value, np.ndarray)]
    if wrong or not arrays:
        raise BadInput(f"{path}: {wrong[0] if wrong else 'the file'} has no array; {HINT}.")
    return under_torch_names(arrays)


def read_variables(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a static-graph folder, one file per variable, or raise BadInput."""
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not NO_WEIGHTS.fullmatch(path.name)]
    if not files:
        raise BadInput(f"{folder} has no weights; a folder of weights has one file per variable.")
    return under_torch_names({path.name: read_variable(path) for path in files})


def read_variable(path: Path) -> Array:
    """Return the array of one variable's file, which Paddle's SerializeToStream writes for a LoDTensor.

    The file has two parts. First: uint32 0, uint64 number of levels, and for each level a uint64 length and that
    many bytes. Second: uint32 0, int32 length of the description, the description, and the numbers.
    """
    content = path.read_bytes()
    try:
        version, levels = struct.unpack_from("<IQ", content)
        offset = 12
        for _ in range(levels):
            offset += 8 + struct.unpack_from("<Q", content, offset)[0]
        tensor_version, length = struct.unpack_from("<Ii", content, offset)
        start = offset + 8 + length
        code, shape = _description(content[offset + 8 : start])
        if version or tensor_version or length < 0 or start > len(content) or code not in DTYPES:
            raise ValueError(f"versions {version} and {tensor_version}, type {code}")
        return np.frombuffer(content[start:], DTYPES[code]).reshape(shape)
    except (struct.error, ValueError, IndexError, OverflowError) as fault:
        raise BadInput(f"{path} is no variable of a Paddle program ({str(fault)[:200]}).") from fault


def _description(message: bytes) -> tuple[int, list[int]]:
    """Return type code and shape of a TensorDesc: field 1 is a varint, field 2 has varints, single or packed."""
    code, shape, offset = -1, [], 0
    while offset < len(message):
        tag, offset = _varint(message, offset)
        value, offset = _varint(message, offset)
        if tag == 8:
            code = value
        elif tag == 16:
            shape.append(value)
        elif tag == 18:
            end = offset + value
            while offset < end:
                side, offset = _varint(message, offset)
                shape.append(side)
        else:
            raise ValueError(f"field {tag >> 3} in its description")
    return code, shape


def _varint(message: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for position in range(10):
        byte = message[offset + position]
        value |= (byte & 127) << (7 * position)
        if byte < 128:
            return value, offset + position + 1
    raise ValueError("a number of more than 10 bytes in its description")
