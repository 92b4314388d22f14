"""What networks leave to chance (dropout, dropped paths): drawn alike, and seen to be drawn.

The global generators of torch, Python and NumPy are known; a generator that a network keeps for itself is not.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def drawing_alike(seed: int = 0) -> Iterator[None]:
    """Make what networks draw the same each time, and leave the generators alone."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def generators() -> tuple[object, ...]:
    """Return the states that draws move."""
    _, numbers, *rest = np.random.get_state(legacy=True)
    return random.getstate(), np.asarray(numbers).tobytes(), *rest, torch.get_rng_state().numpy().tobytes()
