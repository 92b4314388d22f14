"""Fix the random draws of networks (dropout, stochastic depth), and detect whether a network draws.

This covers the global generators of torch, Python and NumPy, but not a generator that a network keeps itself.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def fixed_draws(seed: int = 0) -> Iterator[None]:
    """Seed the global generators inside the context, and restore their states afterwards."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def generator_states() -> tuple[object, ...]:
    """Return the states of the global generators; every draw changes them."""
    _, keys, *rest = np.random.get_state(legacy=True)
    return random.getstate(), np.asarray(keys).tobytes(), *rest, torch.get_rng_state().numpy().tobytes()
