"""open_runner: from any artifact to a function that scores images, whatever made it."""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from steps.backends.contract import BackendModule, Images, Logits, MissingPackage, Runner, TooLarge, WrongFile
from steps.backends.table import BACKENDS
from steps.errors import did_you_mean
from steps.reports.artifact import read_verified_card
from steps.reports.card import Card

if TYPE_CHECKING:  # what BACKENDS names, for the import graph and for mypy: each fulfils the contract
    from steps.backends import aotinductor, onnxruntime, openvino, pytorch, tensorrt

    _FULFIL: tuple[BackendModule, ...] = (aotinductor, onnxruntime, openvino, pytorch, tensorrt)


def open_runner(folder: Path, threads: int | None = None) -> tuple[Runner, Card]:
    """Return the artifact's runner and its card, after every file was held against the card.

    On `threads` of the CPU, else on as many as the card says, else on as many as the runtime likes.

    Raises BadInput (WrongFile, MissingPackage), or CannotRunHere (no driver, other device, other version).
    """
    card = read_verified_card(folder)
    if card.backend not in BACKENDS:
        raise WrongFile(
            f"{folder} wants the backend '{card.backend}', which is not one of {', '.join(BACKENDS)}."
            f"{did_you_mean(card.backend, BACKENDS)}"
        )
    run = backend_module(card.backend).open_engine(folder, card, threads or card.device.threads)
    return (run if card.max_side is None else _within(run, card.form, card.max_side)), card


def _within(run: Runner, form: str, max_side: int) -> Runner:
    """Return the runner of an engine that takes any size up to `max_side`; it raises TooLarge above."""

    def checked(images_NHWC_u8: Images) -> Logits:
        height, width = images_NHWC_u8.shape[1:3]
        if max(height, width) > max_side:
            raise TooLarge(form, f"an image of {width} x {height}", max_side, max(height, width))
        return run(images_NHWC_u8)

    return checked


def backend_module(name: str) -> BackendModule:
    """Return the module of a backend of the table, or raise MissingPackage."""
    backend = BACKENDS[name]
    try:
        import_module(backend.package)
    except ImportError as missing:  # not installed, or installed without its libraries
        raise MissingPackage(
            f"the package {backend.package} cannot be imported ({missing}); {backend.install}."
        ) from missing
    return cast(BackendModule, import_module(backend.module))
