"""Whether the accuracy of a form matches its confidence.

Letters: N images.
"""

import numpy as np
import numpy.typing as npt

from steps.metrics.scores import Floats

BINS = 15


def calibration_error(confidence_N: Floats, right_N: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error (Guo et al. 2017, eq. 3): 0 when confidence equals accuracy.

    Images are binned by the softmax of their predicted class. The error is the mean, over images, of the absolute
    difference between a bin's accuracy and the bin's mean confidence.
    """
    return float(calibration_parts(confidence_N, right_N).mean())


def calibration_parts(confidence_N: Floats, right_N: npt.NDArray[np.bool_]) -> Floats:
    """Return each image's part of the calibration error; the mean of the parts is the error.

    Each part has the sign of its bin. The spread of the parts is, to first order, the spread of the error.
    """
    bin_N = np.minimum((confidence_N * BINS).astype(np.int64), BINS - 1)
    gap_N = right_N - confidence_N
    gap_by_bin = np.bincount(bin_N, weights=gap_N, minlength=BINS)
    parts_N: Floats = np.sign(gap_by_bin)[bin_N] * gap_N
    return parts_N
