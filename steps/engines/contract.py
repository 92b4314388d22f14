"""The contract of every backend, and the errors that a backend raises.

Letters: N images, H and W pixels, C = 3 channels (RGB), K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from steps.errors import BadInput, StepError
from steps.reports.card import Card, Device

Images = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]
Runner = Callable[[Images], Logits]  # images_NHWC_u8 -> logits_NK float32, row i for image i, for any N >= 1

FIXED_BATCH = (
    "{file} takes batches of {batch} images only: the graph was traced with this batch. Export the model with a "
    "dynamic batch."
)
NO_DRIVER = "there is no NVIDIA GPU with a working driver on this machine"


class Deferred(StepError):
    """A form that cannot be evaluated now, with the reason; a deferred form never ships."""


class CannotRunHere(Deferred):
    """This machine lacks what the engine needs. Another machine may have it, so the form is deferred."""


class OtherVersion(CannotRunHere):
    """The engine was built for another version of its runtime than the installed version."""


class CannotBuild(StepError):
    """The builder refused, or the engine may not be used; the sentence holds the reason."""


class MissingPackage(BadInput):
    """A package is not installed; the sentence says how to install it."""


class WrongFile(BadInput):
    """The artifact contradicts its card, or the backend cannot read it."""


class WrongImages(BadInput):
    """A runner was given something other than images_NHWC_u8, or images of the wrong size without a resize."""

    def __init__(self, form: str, size: int | str, shape: tuple[int, ...], dtype: str) -> None:
        dimensions = " x ".join(map(str, shape)) or "no shape"
        super().__init__(
            f"{form} takes one or more RGB images as uint8 of the shape N x {size} x {size} x 3, and was given "
            f"{dtype} of {dimensions}."
        )


class TooLarge(BadInput):
    """An image whose longest side, `side`, exceeds the `max_side` of an engine that resizes images."""

    def __init__(self, form: str, image: str, max_side: int, side: int) -> None:
        super().__init__(
            f"{form} takes images of up to {max_side} pixels a side, and was given {image}; raise build.max_side "
            f"to {side}, or build the engine with build.preprocess: host."
        )


@dataclass(frozen=True)
class BatchRange:
    """The batch sizes that an engine with a fixed profile takes: least, best and most."""

    least: int
    best: int
    most: int


@dataclass(frozen=True)
class Order:
    """An engine to build: a graph in the engine's precision, and the batches and images that it must take."""

    backend: str
    graph: Path
    out: Path
    class_names: tuple[str, ...]
    batch: BatchRange
    compute_capabilities: tuple[str, ...]
    max_side: int | None = None  # pixels; the graph takes images up to this side. None: only the network's size


@dataclass(frozen=True)
class Built:
    """The facts that a builder reports about its engine; `log` holds its warnings, without times.

    `device_memory_bytes` is the scratch memory of the engine on its device, where this machine can tell.
    """

    device: Device
    versions: dict[str, str]
    log: tuple[str, ...] = ()
    device_memory_bytes: int | None = None


class BackendModule(Protocol):
    """The two functions that every module in BACKENDS has."""

    def open_engine(self, folder: Path, card: Card, threads: int | None) -> Runner:
        """Return the artifact's runner on `threads` CPU threads; None: the runtime decides."""

    def build(self, order: Order) -> Built:
        """Write the engine's files into `order.out`, or raise CannotBuild."""
