"""A pickle of numpy arrays, read by an unpickler that knows arrays and plain containers and nothing else.

A pickle is a program: whatever it names is called. Here it can name stand-ins alone, which keep what they are
given until it has been looked at; numpy itself sees bytes, a type off a list, and a shape that fits them. What it
names once it can name a thousand times, so all that is made of a file together is held against the file's length.
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
    """The pickle holds something else than arrays, or is none."""


def read_arrays(content: bytes) -> Any:
    """Return what is pickled, the arrays of a dict as numpy's, or raise NotArrays."""
    try:
        _refuse_reserving(content)
        found = _Unpickler(content).load()
        if not isinstance(found, dict):
            return found
        opening = _Allowance(content)
        return {key: value.opened(opening) if isinstance(value, _Array) else value for key, value in found.items()}
    except NotArrays:
        raise
    except Exception as fault:  # a damaged or hostile pickle raises whatever it likes
        raise NotArrays(f"{type(fault).__name__}: {fault}") from fault


def _refuse_reserving(content: bytes) -> None:
    """Raise NotArrays where the pickle would have the unpickler reserve memory that the file does not fill.

    The memo grows to the largest place named; a pickler counts places up from 0, at least a byte each. The scan
    itself raises where a length reaches beyond the end.
    """
    for code, place, _ in pickletools.genops(content):
        if code.name in PUTS and isinstance(place, int) and place > len(content):
            raise NotArrays(f"it reserves {place:,} places in a file of {len(content):,} bytes")


class _Allowance:
    """How many bytes may still be made of a file: twice its own, since weights may be tied to another name."""

    def __init__(self, content: bytes) -> None:
        self.length, self.left = len(content), 2 * len(content)

    def spend(self, number: int) -> None:
        """Count these bytes before they are made, or raise NotArrays."""
        self.left -= number
        if self.left < 0:
            raise NotArrays(f"it would become more than twice its own {self.length:,} bytes")


class _Kind:
    """Stands for numpy.dtype."""

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
    """Stands for numpy.ndarray, and for what numpy's pickles call to make an empty one."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def opened(self, allowance: _Allowance) -> Array:
        """Return the array, one more of its size."""
        _, shape, kind, column_major, content = self.state
        if not isinstance(kind, _Kind) or not isinstance(content, bytes):
            raise NotArrays("an array that is no plain bytes")
        dtype = kind.opened()
        if len(content) != math.prod(shape) * dtype.itemsize or any(side < 0 for side in shape):
            raise NotArrays(f"an array of the shape {shape} in {len(content)} bytes")
        allowance.spend(len(content))
        return np.frombuffer(content, dtype).reshape(shape, order="F" if column_major else "C")


class _Maker:
    """Stands for what is called to make an object; what it makes is counted."""

    def __init__(self, allowance: _Allowance) -> None:
        self.allowance = allowance

    def __setstate__(self, state: Any) -> None:
        raise NotArrays("a state for what has none")


class _Latin1(_Maker):
    """Stands for _codecs.encode: the bytes of a pickle of protocol 2."""

    def __call__(self, text: str, _: str = "latin1") -> bytes:
        self.allowance.spend(len(text))
        return str.encode(text, "latin1")


class _Ordered(_Maker):
    """Stands for OrderedDict, empty or of pairs."""

    def __call__(self, pairs: Any = ()) -> OrderedDict[Any, Any]:
        self.allowance.spend(LEAST_OF_A_PAIR * len(pairs))
        return OrderedDict(pairs)


LEAST_OF_A_PAIR = 8  # bytes of a pickled [name, value], at least
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
        """Return the stand-in; whatever else a pickle may name is refused."""
        if (module, name) not in ADMITTED:
            raise NotArrays(f"it names {module}.{name}")
        stand_in = ADMITTED[module, name]
        return stand_in(self.allowance) if issubclass(stand_in, _Maker) else stand_in
