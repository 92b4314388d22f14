"""Open a release for a tool: verify all files, and find its engines by name."""

import hashlib
import os
from pathlib import Path

from steps.errors import BadInput, did_you_mean
from steps.reports.artifact import CARD
from steps.reports.card import Card
from steps.reports.champion import Champion
from steps.reports.release import INDEX, SUMS, ReleaseCard, check_sums, plain_files
from steps.reports.verdict import LINE, Verdict, card_checksum

MODEL = "model"  # the name of the release's model on a command line; every release holds this model
VERDICT = "verdict.json"


def verified_release(folder: Path) -> Path:
    """Return the folder of the release, or raise BadInput if a file is not the judged and sealed file.

    `folder` is a release, or the champion's folder, which holds a release.
    """
    if os.access(folder / "champion.json", os.F_OK):  # also False where the folder may not be read
        if not Champion.read(folder / "champion.json").accepted:
            raise BadInput(
                f"{folder} holds no accepted release yet; `make accept` makes data/release the champion."
            )
        folder = folder / "release"
    check_release(folder)
    return folder


def check_release(folder: Path) -> None:
    """Raise BadInput unless the seal, the index, the verdict and the cards all match the files of the release.

    Anyone can write a new seal, so the checksums of the verdict and the cards are compared too. labels.txt and
    preprocessing.txt must match the model's card.
    """
    found = check_sums(folder)
    index = ReleaseCard.read(folder / INDEX)
    listed = {path: checksum for path, checksum in found.items() if path != INDEX}
    _check_listed(folder, INDEX, index.files, listed)
    forms = Verdict.read(folder / VERDICT).forms
    passed = {form.form: form.card for form in forms if form.judgement == "pass"}
    for form, place in {LINE[-1]: MODEL, **{engine: f"engines/{engine}" for engine in index.engines}}.items():
        card = Card.read(folder / place / CARD)
        if passed.get(form) != card_checksum(card):
            raise BadInput(
                f"{folder / place / CARD} is not the card that passed as {form} in {VERDICT}: the release was "
                "changed and sealed again; make the release again."
            )
        of_card = {f"{place}/{name}": checksum for name, checksum in card.files.items()}
        if place == MODEL:
            of_card |= {name: hashlib.sha256(content).hexdigest() for name, content in plain_files(card).items()}
        _check_listed(folder, f"{place}/{CARD}", of_card, {path: found.get(path, "") for path in of_card})


def _check_listed(folder: Path, record: str, listed: dict[str, str], found: dict[str, str]) -> None:
    for path, _ in sorted(listed.items() ^ found.items()):
        raise BadInput(
            f"{folder / path} is not what {record} says: the release was changed and sealed again; make it again."
        )


def keep_out_of_releases(flag: str, path: Path) -> None:
    """Raise BadInput where the output `path` is a release or lies in a release, whose seal would break."""
    place = Path(os.path.realpath(path))  # a circular link is no fault here
    for folder in (place, *place.parents):
        if all(
            os.access(folder / name, os.F_OK) for name in (SUMS, INDEX)
        ):  # also False where the folder may not be read
            raise BadInput(f"{flag} {path} lies in the release {folder}, whose seal it would break; name another.")


def refuse_a_folder_of_others(target: Path, ours: bool, flags: str) -> None:
    """Raise BadInput where the output `target` exists and is no folder, or is not empty and not `ours`."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise BadInput(f"{target} is no folder and would be replaced; name another {flags}.")
    if target.is_dir() and any(target.iterdir()) and not ours:
        raise BadInput(f"{target} was not written by this tool and will not be replaced; name another {flags}.")


def engine_folder(release: Path, index: ReleaseCard, engine: str) -> Path:
    """Return the folder of an engine, or of the model, in the release; raise BadInput with the nearest name."""
    known = (MODEL, *index.engines)
    if engine not in known:
        raise BadInput(
            f"{release} holds no engine '{engine}'.{did_you_mean(engine, known)} Its engines: {', '.join(known)}."
        )
    return release / MODEL if engine == MODEL else release / "engines" / engine
