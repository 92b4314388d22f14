"""Student's t: how far the mean of a few values lies from the true one."""

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np

EXACT_UP_TO = 500  # degrees of freedom; beyond, the series in 1 / freedom is exact to a few 1e-6
HALVINGS = 60


@lru_cache(maxsize=64)
def t_quantile(confidence: float, freedom: int) -> float:
    """Return the quantile of Student's t: Abramowitz and Stegun (1964), 26.7.3 and 26.7.4, and beyond 26.7.5."""
    if freedom > EXACT_UP_TO:
        z = NormalDist().inv_cdf(confidence)
        first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
        return z + first / freedom + second / freedom**2
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(freedom)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 2 * confidence - 1 else (low, middle)
    return math.tan(high) * math.sqrt(freedom)


def _within(angle: float, freedom: int) -> float:
    """Return the chance that t lies within plus and minus this angle's: a finite sum for whole numbers."""
    odd = freedom % 2
    steps = np.arange(1, (freedom - 2 - odd) // 2 + 1)
    factors = (2 * steps - 1 + odd) / (2 * steps + odd) * math.cos(angle) ** 2
    terms = np.cumprod(np.concatenate([[math.cos(angle) ** odd], factors]))
    if not odd:
        return math.sin(angle) * float(terms.sum())
    return 2 / math.pi * (angle + (math.sin(angle) * float(terms.sum()) if freedom > 1 else 0))
