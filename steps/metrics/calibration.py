"""Whether a form is right as often as its scores say.

Letters: N images, K classes.
"""

import numpy as np
import numpy.typing as npt

from steps.metrics.agreement import Logits, log_softmax


def calibration_error(logits_NK: Logits, labels_N: npt.NDArray[np.int64], bins: int = 15) -> float:
    """Return the expected calibration error (Guo et al. 2017, eq. 3): 0 when confidence equals accuracy.

    Images are binned by the score of their predicted class; the error is the mean over images of the
    difference between a bin's accuracy and its mean confidence.
    """
    confidence_N = np.exp(log_softmax(logits_NK).max(axis=1))
    right_N = logits_NK.argmax(axis=1) == labels_N
    bin_N = np.minimum((confidence_N * bins).astype(np.int64), bins - 1)
    gap_by_bin = np.bincount(bin_N, weights=right_N - confidence_N, minlength=bins)
    return float(np.abs(gap_by_bin).sum() / len(labels_N))
