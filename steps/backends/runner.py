"""open_runner: from any artifact to a function that scores images, with any backend."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from steps.cores import usable_cores
from steps.engines.contract import (
    BackendModule,
    Images,
    Logits,
    MissingPackage,
    Runner,
    TooLarge,
    WrongFile,
    WrongImages,
)
from steps.engines.names import BACKENDS, missing_files
from steps.reports.artifact import read_verified_card
from steps.reports.card import Card

if TYPE_CHECKING:  # for the import graph, and for mypy: each module in BACKENDS fulfils the contract
    from steps.backends import aotinductor, onnxruntime, openvino, pytorch, tensorrt

    _FULFIL: tuple[BackendModule, ...] = (aotinductor, onnxruntime, openvino, pytorch, tensorrt)


def open_runner(folder: Path, threads: int | None = None) -> tuple[Runner, Card]:
    """Return the artifact's runner and its card, after the check of every file against the card.

    The runner uses `threads` CPU threads; if None, the card's number; if the card has none, the runtime decides.
    Raises BadInput (WrongFile, MissingPackage), or CannotRunHere (no driver, other device, other version).
    """
    card = read_verified_card(folder)
    if fault := missing_files(card.backend, card.files):
        raise WrongFile(f"{folder} {fault}")
    run = backend_module(card.backend).open_engine(folder, card, threads or usable(card.device.threads))
    return _checked(run, card), card


def usable(threads: int | None) -> int | None:
    """Return the number of threads, at most one for each CPU: an engine can come from a larger machine."""
    return None if threads is None else min(threads, usable_cores())


def _checked(run: Runner, card: Card) -> Runner:
    """Return the runner with a check of its images, which raises WrongImages or TooLarge.

    Without the check, one runtime reads floats as bytes, and compiled code reads beyond the end of an image.
    """

    def checked(images_NHWC_u8: Images) -> Logits:
        _check_images(images_NHWC_u8, card)
        return run(images_NHWC_u8)

    return checked


def _check_images(images_NHWC_u8: Images, card: Card) -> None:
    size = card.preprocessing.size
    shape, dtype = np.shape(images_NHWC_u8), getattr(images_NHWC_u8, "dtype", type(images_NHWC_u8).__name__)
    fits = dtype == np.uint8 and len(shape) == 4 and min(shape) > 0 and shape[3] == 3
    if not fits or (card.takes == "sized" and shape[1:3] != (size, size)):
        raise WrongImages(card.form, size if card.takes == "sized" else "any", shape, str(dtype))
    height, width = shape[1:3]
    if card.max_side is not None and max(height, width) > card.max_side:
        raise TooLarge(card.form, f"an image of {width} x {height}", card.max_side, max(height, width))


def backend_module(name: str) -> BackendModule:
    """Return the module of a backend in BACKENDS, or raise MissingPackage."""
    backend = BACKENDS[name]
    try:
        import_module(backend.package)
    except ImportError as missing:  # the package, or a library of the package, is missing
        raise MissingPackage(
            f"the package {backend.package} cannot be imported ({missing}); {backend.install}."
        ) from missing
    return cast(BackendModule, import_module(backend.module))
