"""A pickle of arrays is read, and cannot use more memory than the size of its file."""

import codecs
import pickle
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from steps.weights.array_pickle import NotArrays, read_arrays

MEMO = b"}" + b"r" + (2**27).to_bytes(4, "little") + b"."  # LONG_BINPUT: seven bytes ask for two gigabytes
MEMO_IN_TEXT = b"}p134217728\n."
LENGTH = b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"."  # BYTEARRAY8, truncated after a byte


@pytest.mark.parametrize("content", [MEMO, MEMO_IN_TEXT, LENGTH])
def test_a_small_file_reserves_no_memory(content: bytes) -> None:
    with pytest.raises(NotArrays, match=r"reserves 134,217,728 places|expected .* bytes"):
        read_arrays(content)


@pytest.mark.parametrize("protocol", range(5))  # numpy's pickles of protocol 5 use names that are not allowed
def test_arrays_are_still_read(protocol: int) -> None:
    arrays = {f"layer{number}": np.arange(6.0).reshape(2, 3) + number for number in range(300)}
    read = read_arrays(pickle.dumps(arrays, protocol))
    assert all(np.array_equal(read[key], array) for key, array in arrays.items())


SIZE = 1_000_000


class Called:
    """An object that pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def encoded_often() -> dict[str, Any]:
    text = "x" * SIZE
    return {str(number): Called(codecs.encode, text, "latin1") for number in range(100)}


def ordered_often() -> dict[str, Any]:
    pairs = [(number, None) for number in range(SIZE // 10)]
    return {str(number): Called(OrderedDict, pairs) for number in range(100)}


def named_often() -> dict[str, Any]:
    return dict.fromkeys(map(str, range(100)), np.zeros(SIZE // 4, np.float32))


@pytest.mark.parametrize("make", [encoded_often, ordered_often, named_often])
def test_what_is_named_often_is_not_made_often(make: Callable[[], dict[str, Any]]) -> None:
    content = pickle.dumps(make(), 2)
    assert len(content) < 2 * SIZE
    tracemalloc.start()
    try:
        with pytest.raises(NotArrays, match=rf"more than twice the file's {len(content):,} bytes"):
            read_arrays(content)
        assert tracemalloc.get_traced_memory()[1] < 50 * SIZE  # all hundred would take 100 million bytes or more
    finally:
        tracemalloc.stop()


def test_weights_that_are_tied_to_another_name_are_read() -> None:
    tied = np.arange(SIZE, dtype=np.float32)
    read = read_arrays(pickle.dumps(OrderedDict(embedding=tied, head=tied), 4))
    assert np.array_equal(read["embedding"], tied) and np.array_equal(read["head"], tied)


def test_a_stand_in_takes_no_state() -> None:
    with pytest.raises(NotArrays, match="a state for an object that has no state"):
        read_arrays(b"ccollections\nOrderedDict\n}b.")
