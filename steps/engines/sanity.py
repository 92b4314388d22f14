"""Outputs that no working engine gives: constant, not finite, saturated.

Letters: N images, K classes.
"""

import numpy as np
import numpy.typing as npt

from steps.engines.contract import Images, Logits
from steps.reports.card import Precision

LARGEST: dict[Precision, float] = {
    "fp32": float(np.finfo(np.float32).max),
    "fp16": float(np.finfo(np.float16).max),
    "bf16": 3.3895313892515355e38,
    "int8": float(np.finfo(np.float32).max),
}
# As a share of the median highest score: below float32's rounding noise in a network, and far below the effect of
# any picture. The median of highest scores ignores a class masked with a large negative score, and one bad image.
CONSTANT = 1e-6


def random_probes(size: int, seed: int, count: int = 6) -> Images:
    """Return images_NHWC_u8 that differ strongly: noise, gradients, black and white."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    across = np.broadcast_to(ramp[None, :, None], (size, size, 3))
    flat = [np.zeros_like(across), np.full_like(across, 255), across, across.transpose(1, 0, 2)]
    return np.concatenate([noise, np.stack(flat)])


def largest_finite(values: npt.NDArray[np.floating]) -> float:
    """Return the largest absolute value of the finite values; 0 if no value is finite."""
    return float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))


def noise_of(logits_NK: Logits) -> float:
    """Return the largest range of a score over the images that counts as constant."""
    return CONSTANT * float(np.median(np.abs(logits_NK.max(axis=1))))


def output_fault(logits_NK: Logits, precision: Precision) -> str | None:
    """Return the fault of the outputs for different images, with the figures, or None."""
    count = len(logits_NK)
    bad = count - int(np.isfinite(logits_NK).all(axis=1).sum())
    if bad:
        return f"{bad} of {count} probes give outputs that are not finite"
    largest = float(np.abs(logits_NK).max())
    if largest >= LARGEST[precision]:
        return f"its outputs reach {largest:g} and are saturated: {precision} ends at {LARGEST[precision]:g}"
    spread = float(np.ptp(logits_NK, axis=0).max())
    if spread <= noise_of(logits_NK):
        return (
            f"its outputs are constant: over {count} different probes no score changes by more than {spread:g} "
            f"(the largest is {largest:g})"
        )
    return None
