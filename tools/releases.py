"""A release as tools open it: verified whole, by its own folder or by the champion's, and its engines by name."""

from pathlib import Path

from steps.errors import BadInput, did_you_mean
from steps.reports.champion import Champion
from steps.reports.release import ReleaseCard, check_sums

MODEL = "model"  # what a flag calls the release's own model, which every release holds


def verified_release(folder: Path) -> Path:
    """Return the folder of the release, every file of which is what was sealed; raises BadInput.

    `folder` may be the champion's too, which holds a release.
    """
    if (folder / "champion.json").is_file():
        if not Champion.read(folder / "champion.json").accepted:
            raise BadInput(
                f"{folder} holds no accepted release yet; `make accept` makes data/release the champion."
            )
        folder = folder / "release"
    check_sums(folder)
    return folder


def engine_folder(release: Path, index: ReleaseCard, engine: str) -> Path:
    """Return where the release holds an engine, or its model; raises BadInput with the nearest name."""
    known = (MODEL, *index.engines)
    if engine not in known:
        raise BadInput(
            f"{release} holds no engine '{engine}'.{did_you_mean(engine, known)} It holds {', '.join(known)}."
        )
    return release / MODEL if engine == MODEL else release / "engines" / engine
