"""How alike the scores of two forms are, image by image.

Letters: N images, K classes. Scores are float32 logits; people read their softmax.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
CHUNK = 4096  # images at a time, so that the float64 copies of a large test set stay small


def log_softmax(logits_NK: Logits) -> Floats:
    """Return the logarithm of the softmax over classes, in float64; the logits must be finite."""
    wide = logits_NK.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide


def same_class(reference_NK: Logits, form_NK: Logits) -> float:
    """Return the share of images that both forms put into the same class."""
    return float(np.mean(reference_NK.argmax(axis=1) == form_NK.argmax(axis=1)))


def score_differences(reference_NK: Logits, form_NK: Logits) -> Floats:
    """Return, for each image, the largest absolute difference of the softmax over its classes."""
    parts = [
        np.abs(np.exp(log_softmax(one)) - np.exp(log_softmax(other))).max(axis=1)
        for one, other in _chunks(reference_NK, form_NK)
    ]
    return np.concatenate(parts)


def divergence(reference_NK: Logits, form_NK: Logits) -> float:
    """Return the mean Kullback-Leibler divergence of the form's softmax from the reference's, in nats."""
    total = 0.0
    for one, other in _chunks(reference_NK, form_NK):
        log_p, log_q = log_softmax(one), log_softmax(other)
        total += float((np.exp(log_p) * (log_p - log_q)).sum())
    return total / len(reference_NK)


def _chunks(reference_NK: Logits, form_NK: Logits) -> Iterator[tuple[Logits, Logits]]:
    for begin in range(0, len(reference_NK), CHUNK):
        yield reference_NK[begin : begin + CHUNK], form_NK[begin : begin + CHUNK]
