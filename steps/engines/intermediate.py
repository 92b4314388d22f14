"""An intermediate tensor of a form, between its images and its logits, and which layer it belongs to.

Letters: N images.
"""

import re
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from steps.engines.contract import Images
from steps.reports.card import Card

# also what the folded normalisation, a precision and a quantizer make of the name
WEIGHT = re.compile(r"(?:network\.)?(?P<layer>.+)\.weight(\.of_pixels)?(_\w*)?$")


class Intermediate(NamedTuple):
    """One tensor: what it is called, the operator that gives it, the layer whose weights it took, or ""."""

    name: str
    operator: str
    layer: str
    values_N: npt.NDArray[np.float32]  # N x anything


class ReadsTensors(Protocol):
    """The third function of a backend's module, where it has one."""

    def read_tensors(self, folder: Path, card: Card, images_NHWC_u8: Images) -> list[Intermediate]:
        """Return every real tensor of these images, in the order in which they are computed."""


def layer_of(names: list[str]) -> str:
    """Return the layer whose weights stand among the names of a node's inputs, or ""."""
    found = (WEIGHT.match(name) for name in names)
    return next((match["layer"] for match in found if match), "")


def is_real(values: npt.NDArray[np.generic], images: int) -> bool:
    """Tell whether an array is a tensor of these images, and no constant, shape or index."""
    return values.ndim > 0 and values.shape[0] == images and np.issubdtype(values.dtype, np.floating)
