"""Random numbers as pure functions of (seed, epoch, purpose, position), so that resuming needs no generator state.

A position's numbers do not depend on the other positions in the same call. Letters: N positions.
Source of the mixing function: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
"""

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

# These numbers are fixed, so that earlier results stay the same. The hash of a new purpose's name is its number.
PURPOSES = {"order": 1, "class": 2, "member": 3, "shift_rows": 4, "shift_columns": 5, "flip": 6, "probes": 7}

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FEISTEL_ROUNDS = 6


def words(seed: int, epoch: int, purpose: str, positions_N: Positions) -> Words:
    """Return 64 random bits for each position."""
    key = _key(seed, epoch, _number(purpose))
    return _mix(positions_N.astype(np.uint64) * GOLDEN + key)


def uniforms(seed: int, epoch: int, purpose: str, positions_N: Positions) -> npt.NDArray[np.float64]:
    """Return a number in [0, 1) for each position, in steps of 2^-53."""
    return (words(seed, epoch, purpose, positions_N) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permuted(seed: int, epoch: int, purpose: str, positions_N: Positions, size: int) -> Positions:
    """Return the value of each position under a random permutation of range(size), which is never stored.

    A Feistel network permutes range(P), where P is a power of four and P >= size. A result that is not below
    `size` is permuted again until the result is below `size` (cycle walking).
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    keys = [_key(seed, epoch, _number(purpose) << 8 | number) for number in range(FEISTEL_ROUNDS)]
    images_N = _feistel(positions_N.astype(np.uint64), keys, half)
    while (outside_N := np.flatnonzero(images_N >= size)).size:
        images_N[outside_N] = _feistel(images_N[outside_N], keys, half)
    return images_N.astype(np.int64)


@lru_cache(maxsize=256)
def _number(purpose: str) -> int:
    return PURPOSES.get(purpose) or int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:6])


def _feistel(values_N: Words, keys: list[np.uint64], half: np.uint64) -> Words:
    mask = np.uint64((1 << int(half)) - 1)
    left_N, right_N = values_N >> half, values_N & mask
    for key in keys:
        left_N, right_N = right_N, left_N ^ (_mix(right_N * GOLDEN + key) & mask)
    return left_N << half | right_N


def _key(seed: int, epoch: int, purpose: int) -> np.uint64:
    key_1 = np.zeros(1, np.uint64)
    for part in (seed & (1 << 64) - 1, seed >> 64, epoch, purpose):
        key_1 = _mix(key_1 + GOLDEN ^ np.uint64(part & (1 << 64) - 1))
    return np.uint64(key_1[0])


def _mix(values_N: Words) -> Words:
    values_N = (values_N ^ values_N >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values_N = (values_N ^ values_N >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values_N ^ values_N >> np.uint64(31)
