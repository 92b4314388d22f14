"""What build and evaluate read from an artifact besides its card. Nothing here imports torch."""

import zipfile
from pathlib import Path

import numpy as np

from steps.engines.contract import Images, WrongFile
from steps.reports.artifact import FACTS, PROBES
from steps.reports.card import Card


def model_bytes(folder: Path, card: Card) -> int:
    """Return the size of the files that a device loads: all files without the probes and engine.json."""
    return sum((folder / name).stat().st_size for name in card.files if name not in (PROBES, FACTS))


def read_probes(folder: Path) -> Images:
    """Return the artifact's probes, a few real images, as images_NHWC_u8."""
    try:
        with np.load(folder / PROBES, allow_pickle=False) as probes:
            images_NHWC_u8: Images = probes["images_NHWC_u8"]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as fault:
        raise WrongFile(f"{folder / PROBES} holds no images_NHWC_u8: {fault}") from fault
    return images_NHWC_u8
