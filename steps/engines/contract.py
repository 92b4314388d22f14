"""What every backend offers, and the four sentences with which one says that it cannot.

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
    "{file} takes batches of {batch} alone: it was traced for as many images. Export it with a dynamic batch."
)
NO_DRIVER = "there is no NVIDIA GPU with a working driver on this machine"


class Deferred(StepError):
    """A form that cannot be evaluated now, with the reason; it is never shipped, and evaluated later."""


class CannotRunHere(Deferred):
    """This machine lacks what the engine needs; another one may have it, so the form is deferred."""


class OtherVersion(CannotRunHere):
    """The engine belongs to another version of its runtime than the one that is installed here."""


class CannotBuild(StepError):
    """The builder said no: the sentence holds its reason."""


class MissingPackage(BadInput):
    """A package is not installed; the sentence says how to get it."""


class WrongFile(BadInput):
    """The artifact is not what its card says, or not what its backend reads."""


class WrongImages(BadInput):
    """A runner was given no images_NHWC_u8, or none of the network's size, where it does not resize them."""

    def __init__(self, form: str, size: int | str, shape: tuple[int, ...], dtype: str) -> None:
        given = " x ".join(map(str, shape)) or "no shape"
        super().__init__(
            f"{form} takes one or more RGB images as uint8 of the shape N x {size} x {size} x 3, and was given "
            f"{dtype} of {given}."
        )


class TooLarge(BadInput):
    """An image whose longest side, `side`, is beyond what an engine that resizes it is built for."""

    def __init__(self, form: str, what: str, max_side: int, side: int) -> None:
        super().__init__(
            f"{form} takes images of up to {max_side} pixels a side, and was given {what}; raise build.max_side "
            f"to {side}, or build it with build.preprocess: host."
        )


@dataclass(frozen=True)
class BatchRange:
    """The batch sizes that an engine with a fixed profile serves: least, best and most."""

    least: int
    best: int
    most: int


@dataclass(frozen=True)
class Order:
    """An engine to build: a graph that already holds its precision, and what it shall serve."""

    backend: str
    graph: Path
    out: Path
    class_names: tuple[str, ...]
    batch: BatchRange
    compute_capabilities: tuple[str, ...]
    max_side: int | None = None  # pixels; the graph takes images of any size up to it. None: at the network's size


@dataclass(frozen=True)
class Built:
    """What a builder tells about its engine; `log` holds its warnings, without times.

    `device_memory_bytes` is the scratch memory that the engine takes on its device, where that can be asked here.
    """

    device: Device
    versions: dict[str, str]
    log: tuple[str, ...] = ()
    device_memory_bytes: int | None = None


class BackendModule(Protocol):
    """The two functions of a module in BACKENDS."""

    def open_engine(self, folder: Path, card: Card, threads: int | None) -> Runner:
        """Return the artifact's runner; `threads` of the CPU, or as many as the runtime likes."""

    def build(self, order: Order) -> Built:
        """Write the engine's files into `order.out`, or raise CannotBuild."""
