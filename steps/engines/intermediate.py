"""An intermediate tensor of a form, between the images and the logits, and the layer of the tensor.

Letters: N images.
"""

import re
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from steps.engines.contract import Images
from steps.reports.card import Card

# The pattern allows the suffixes that the folded normalisation, a precision and a quantizer add to a name.
WEIGHT = re.compile(r"(?:network\.)?(?P<layer>.+)\.weight(\.of_pixels)?(_\w*)?$")


class Intermediate(NamedTuple):
    """One tensor: its name, the operator that gives it, and the layer whose weights the operator used, or ""."""

    name: str
    operator: str
    layer: str
    values_N: npt.NDArray[np.float32]  # N x anything


class ReadsTensors(Protocol):
    """The third function of a backend's module; some backends lack it."""

    def read_tensors(self, folder: Path, card: Card, images_NHWC_u8: Images) -> list[Intermediate]:
        """Return every real tensor of these images, in the order of the computation."""


def layer_of(names: list[str]) -> str:
    """Return the layer whose weights are among the names of a node's inputs, or ""."""
    found = (WEIGHT.match(name) for name in names)
    return next((match["layer"] for match in found if match), "")


def is_real(values: npt.NDArray[np.generic], images: int) -> bool:
    """Tell whether an array is a float tensor with one row for each image, so no constant, shape or index."""
    return values.ndim > 0 and values.shape[0] == images and np.issubdtype(values.dtype, np.floating)
