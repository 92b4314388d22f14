"""A model artifact's files and the checksums by which its card knows them."""

import hashlib
import json
from pathlib import Path

from steps.errors import BadInput
from steps.files import sha256
from steps.reports.card import Card

CARD = "card.json"
PROBES = "probes.npz"
FACTS = "engine.json"  # of an engine: what it needs
NO_MODEL_FILES = {CARD, "report.json"}  # build writes its report beside the engine


def file_checksums(folder: Path) -> dict[str, str]:
    """Return file name -> sha256 of every file of the artifact but its card."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in NO_MODEL_FILES)
    return {name: sha256(folder / name) for name in names}


def artifact_checksum(files: dict[str, str]) -> str:
    """Return one sha256 over the names and checksums of an artifact's files."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def write_card(folder: Path, card: Card) -> Card:
    """Write the card of the files that lie in the folder, their checksums in it, and return it."""
    files = file_checksums(folder)
    complete = card.model_copy(update={"files": files, "artifact": artifact_checksum(files)})
    complete.write(folder / CARD)
    return complete


def read_verified_card(folder: Path) -> Card:
    """Return the artifact's card, or raise BadInput where a file is missing or is another than the card's."""
    card = Card.read(folder / CARD)
    for name, checksum in card.files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise BadInput(f"{file} is listed in the artifact's {CARD} and is not there; write {folder} again.")
        found = sha256(file)
        if found != checksum:
            raise BadInput(
                f"{file} has the checksum {found[:12]}..., but its {CARD} says {checksum[:12]}...: "
                f"it was changed, cut short, or is of another run; write {folder} again."
            )
    if artifact_checksum(card.files) != card.artifact:
        raise BadInput(f"{folder / CARD}: its `artifact` is not the checksum of its files; write {folder} again.")
    return card
