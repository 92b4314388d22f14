"""read_tensors: the intermediate tensors of an artifact, if its backend can give them."""

from pathlib import Path
from typing import cast

from steps.backends.runner import backend_module
from steps.engines.contract import Images
from steps.engines.intermediate import Intermediate, ReadsTensors
from steps.engines.names import BACKENDS
from steps.errors import BadInput
from steps.reports.artifact import read_verified_card


class CannotRead(BadInput):
    """The backend cannot give its intermediate tensors."""


def read_tensors(folder: Path, images_NHWC_u8: Images) -> list[Intermediate]:
    """Return the artifact's intermediate tensors; raise CannotRead, or an error of opening the artifact."""
    card = read_verified_card(folder)
    if card.backend not in BACKENDS:
        raise CannotRead(f"{folder} needs the backend '{card.backend}', which does not exist here.")
    module = backend_module(card.backend)
    if not hasattr(module, "read_tensors"):
        raise CannotRead(f"the intermediate tensors of an engine of {card.backend} cannot be read.")
    return cast(ReadsTensors, module).read_tensors(folder, card, images_NHWC_u8)
