"""A pickle of arrays is read, and cannot reserve more memory than its file fills."""

import pickle

import numpy as np
import pytest

from steps.models.array_pickle import NotArrays, read_arrays

MEMO = b"}" + b"r" + (2**27).to_bytes(4, "little") + b"."  # LONG_BINPUT: two gigabytes for seven bytes
MEMO_IN_TEXT = b"}p134217728\n."
LENGTH = b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"."  # BYTEARRAY8 that ends after a byte


@pytest.mark.parametrize("content", [MEMO, MEMO_IN_TEXT, LENGTH])
def test_a_small_file_reserves_no_memory(content: bytes) -> None:
    with pytest.raises(NotArrays, match=r"reserves 134,217,728 places|expected .* bytes"):
        read_arrays(content)


@pytest.mark.parametrize("protocol", range(5))  # numpy's pickles of protocol 5 name what is not admitted
def test_arrays_are_still_read(protocol: int) -> None:
    arrays = {f"layer{number}": np.arange(6.0).reshape(2, 3) + number for number in range(300)}
    read = read_arrays(pickle.dumps(arrays, protocol))
    assert all(np.array_equal(read[key], array) for key, array in arrays.items())
