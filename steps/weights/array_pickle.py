"""Read a pickle of numpy arrays with an unpickler that accepts only arrays and plain containers.

A pickle is a program: it calls every function that it names. This unpickler lets a pickle name only stand-ins,
which store their arguments until the arguments are checked. numpy itself gets only bytes, a type from a fixed
list, and a shape that fits the bytes. A pickle can also name one object a thousand times: therefore the total size
of the objects made from a file is limited by the file's length.
"""

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8")  # u2 is how Paddle writes bfloat16


class NotArrays(Exception):
    """The file is no pickle, or the pickle has something else than arrays."""


def read_arrays(content: bytes) -> Any:
    """Return the pickled object, with the arrays of a dict as numpy arrays, or raise NotArrays."""
    try:
        _refuse_reserving(content)
        found = _Unpickler(content).load()
        if not isinstance(found, dict):
            return found
        allowance = _Allowance(content)
        return {
            key: value.opened(allowance) if isinstance(value, _Array) else value for key, value in found.items()
        }
    except NotArrays:
        raise
    except Exception as fault:  # a damaged or hostile pickle may raise anything
        raise NotArrays(f"{type(fault).__name__}: {fault}") from fault


def _refuse_reserving(content: bytes) -> None:
    """Raise NotArrays if the pickle would make the unpickler reserve more memory than the file's length explains.

    The unpickler's memo grows to the largest index that the pickle names. A pickler counts indices up from 0, and
    each index takes at least one byte. The scan itself raises if a length goes beyond the end of the file.
    """
    for code, index, _ in pickletools.genops(content):
        if code.name in PUTS and isinstance(index, int) and index > len(content):
            raise NotArrays(f"it reserves {index:,} places in a file of {len(content):,} bytes")


class _Allowance:
    """The bytes that may still be made from a file: twice its length, because two names may share one tensor."""

    def __init__(self, content: bytes) -> None:
        self.length, self.left = len(content), 2 * len(content)

    def spend(self, number: int) -> None:
        """Subtract these bytes before an object is made, or raise NotArrays."""
        self.left -= number
        if self.left < 0:
            raise NotArrays(f"its objects would take more than twice the file's {self.length:,} bytes")


class _Kind:
    """The stand-in for numpy.dtype."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name, self.order = name, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def opened(self) -> np.dtype[Any]:
        if self.name not in KINDS or self.order not in ("<", "|", "="):
            raise NotArrays(f"an array of the type {self.order}{self.name}")
        dtype: np.dtype[Any] = np.dtype(self.name)
        return dtype


class _Array:
    """The stand-in for numpy.ndarray, and for the function that numpy's pickles call to make an empty array."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def opened(self, allowance: _Allowance) -> Array:
        """Return the numpy array, and subtract its size from the allowance."""
        _, shape, kind, column_major, content = self.state
        if not isinstance(kind, _Kind) or not isinstance(content, bytes):
            raise NotArrays("an array without plain bytes")
        dtype = kind.opened()
        if len(content) != math.prod(shape) * dtype.itemsize or any(side < 0 for side in shape):
            raise NotArrays(f"an array of the shape {shape} in {len(content)} bytes")
        allowance.spend(len(content))
        return np.frombuffer(content, dtype).reshape(shape, order="F" if column_major else "C")


class _Maker:
    """The stand-in for a function that makes an object; the object's size is subtracted from the allowance."""

    def __init__(self, allowance: _Allowance) -> None:
        self.allowance = allowance

    def __setstate__(self, state: Any) -> None:
        raise NotArrays("a state for an object that has no state")


class _Latin1(_Maker):
    """The stand-in for _codecs.encode: pickles of protocol 2 store bytes this way."""

    def __call__(self, text: str, _: str = "latin1") -> bytes:
        self.allowance.spend(len(text))
        return str.encode(text, "latin1")


class _Ordered(_Maker):
    """The stand-in for OrderedDict, empty or made from pairs."""

    def __call__(self, pairs: Any = ()) -> OrderedDict[Any, Any]:
        self.allowance.spend(LEAST_PAIR_BYTES * len(pairs))
        return OrderedDict(pairs)


LEAST_PAIR_BYTES = 8  # the least size of a pickled [name, value]
ADMITTED: dict[tuple[str, str], type] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _Latin1,
    ("collections", "OrderedDict"): _Ordered,
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.allowance = _Allowance(content)

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name, or raise NotArrays for any other name."""
        if (module, name) not in ADMITTED:
            raise NotArrays(f"it names {module}.{name}")
        stand_in = ADMITTED[module, name]
        return stand_in(self.allowance) if issubclass(stand_in, _Maker) else stand_in
