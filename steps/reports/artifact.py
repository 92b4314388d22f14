"""The files of a model artifact, and the checksums of these files in its card."""

import hashlib
import json
from pathlib import Path

from steps.errors import BadInput
from steps.files import sha256
from steps.reports.card import Card

CARD = "card.json"
PROBES = "probes.npz"
FACTS = "engine.json"  # inputs, outputs and requirements of an engine
NO_MODEL_FILES = {CARD, "report.json"}  # build writes its report beside the engine


def file_checksums(folder: Path) -> dict[str, str]:
    """Return file name -> sha256 of every model file in the folder."""
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in NO_MODEL_FILES)
    return {name: sha256(folder / name) for name in names}


def artifact_checksum(files: dict[str, str]) -> str:
    """Return one sha256 over the names and checksums of an artifact's files."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def write_card(folder: Path, card: Card) -> Card:
    """Write the card with the checksums of the folder's files, and return the card."""
    files = file_checksums(folder)
    complete = card.model_copy(update={"files": files, "artifact": artifact_checksum(files)})
    complete.write(folder / CARD)
    return complete


def read_verified_card(folder: Path) -> Card:
    """Return the artifact's card; raise BadInput where a listed file is missing or has another checksum."""
    card = Card.read(folder / CARD)
    for name, checksum in card.files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise BadInput(f"{file} is listed in the artifact's {CARD} and is not there; write {folder} again.")
        found = sha256(file)
        if found != checksum:
            raise BadInput(
                f"{file} has the checksum {found[:12]}..., but its {CARD} says {checksum[:12]}...: the file was "
                f"changed or cut short, or comes from another run; write {folder} again."
            )
    if artifact_checksum(card.files) != card.artifact:
        raise BadInput(f"{folder / CARD}: `artifact` is not the checksum of its files; write {folder} again.")
    return card
