"""Outputs that no working engine gives, whatever its accuracy: constant, not finite, saturated.

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
# Of the median winning score: below float32's noise over a network, far below any picture's effect. A class that
# is masked with a large negative score wins nowhere, and one image gone astray is no median: neither says anything
# of the others' noise.
CONSTANT = 1e-6


def random_probes(size: int, seed: int, count: int = 6) -> Images:
    """Return images_NHWC_u8 that differ as much as images can: noise, gradients, black and white."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    across = np.broadcast_to(ramp[None, :, None], (size, size, 3))
    flat = [np.zeros_like(across), np.full_like(across, 255), across, across.transpose(1, 0, 2)]
    return np.concatenate([noise, np.stack(flat)])


def largest_finite(values: npt.NDArray[np.floating]) -> float:
    """Return the largest absolute value of those that are finite, 0 where none is."""
    return float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))


def noise_of(logits_NK: Logits) -> float:
    """Return how far a score may move over the images and pass for constant."""
    return CONSTANT * float(np.median(np.abs(logits_NK.max(axis=1))))


def output_fault(logits_NK: Logits, precision: Precision) -> str | None:
    """Return what is wrong with the outputs for different images, with the figures, or None."""
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
            f"its outputs are constant: over {count} different probes no score moves by more than {spread:g} "
            f"(the largest is {largest:g})"
        )
    return None
