"""Deal the images out to train, val and test: every class by its quota, groups and copies whole.

What an accepted release has placed never moves: its ledger is read, and the new one holds all of it.
"""

from pathlib import Path

import numpy as np
import polars as pl

from steps.cli import run_step
from steps.errors import BadInput, Refused
from steps.images.issues import read_dropped
from steps.images.manifest import SPLITS, TEST, read_manifest, write_manifest
from steps.params.split import SplitParams
from steps.progress import say
from steps.reports.base import read_refusal
from steps.reports.champion import Champion
from steps.reports.classes import Classes
from steps.reports.release import check_sums
from steps.reports.split import SplitReport
from steps.splitting.assignment import Dealt, deal
from steps.splitting.ledger import UNPLACED, no_ledger, read_ledger

SHOWN = 3


def split(params: SplitParams, seed: int, ingest: Path, validate: Path, champion: Path, out: Path) -> None:
    """Write the usable images' manifest with split and weight, ledger.parquet and report.json; or refuse."""
    everything = read_manifest(ingest / "manifest.parquet")
    images = _usable(everything, validate)
    classes = Classes.read(ingest / "classes.json")
    ledger = _ledger(champion)
    dealt = deal(images, ledger, params.val, params.test, params.min_per_class, seed)
    names = [classes.names.get(label, str(label)) for label in dealt.label_C.tolist()]
    _check_ledger(ledger, dealt, champion)
    report = _report(images, ledger, dealt, names).model_copy(
        update={"left_out": everything.height - images.height}
    )
    _refuse_moves(images, dealt, champion, report)
    _refuse_leaks(images, dealt, params.max_leaked, report)
    if params.small_classes == "refuse":
        _refuse_small_classes(params.min_per_class, dealt, report)
    _refuse_lacking(params.min_per_class, dealt, names, report)
    _refuse_untested(params.max_untested_classes, report)

    places = pl.Series("split", dealt.place_I, dtype=pl.UInt8)
    named = places.replace_strict([*range(3), int(UNPLACED)], [*SPLITS, None], return_dtype=pl.String)
    with_split = images.with_columns(named.alias("split"), pl.lit(1.0, pl.Float32).alias("weight"))
    write_manifest(with_split.drop_nulls("split"), out / "manifest.parquet")
    dealt.ledger.write_parquet(out / "ledger.parquet", compression="zstd", statistics=True)
    report.write(out / "report.json")
    said = ", ".join(f"{number} {name}" for name, number in report.images.items())
    say(f"split: {said}, of {len(names)} classes; memory: {report.memory}.")
    _say_taken(report)
    _say_copies(with_split.filter(pl.col("split") == "test"))


def _usable(everything: pl.DataFrame, validate: Path) -> pl.DataFrame:
    """Return the images that validate let through."""
    refusal = read_refusal(validate / "report.json")
    if refusal is not None:
        raise BadInput(f"validate refused these images, so there is nothing to split: {refusal}")
    dropped = read_dropped(validate / "issues.parquet")
    usable = everything.filter(~pl.col("name").is_in(dropped.implode()))
    if usable.is_empty():
        raise BadInput(f"{validate}/issues.parquet leaves none of {everything.height} images to split.")
    if usable.get_column("checksum").null_count() or usable.get_column("label").null_count():
        raise BadInput("ingest's manifest has images without checksum or label; run ingest and validate again.")
    return usable


def _ledger(champion: Path) -> pl.DataFrame:
    """Return what the accepted release, found as it was sealed, remembers; nothing if there is no such release."""
    if not Champion.read(champion / "champion.json").accepted:
        return no_ledger()
    try:
        check_sums(champion / "release")
    except BadInput as fault:
        raise BadInput(
            f"{fault} Or bring the champion back as it was accepted, such as by `git checkout -- {champion}`."
        ) from fault
    return read_ledger(champion / "release/ledger.parquet")


def _check_ledger(ledger: pl.DataFrame, dealt: Dealt, champion: Path) -> None:
    if ledger.height and not (dealt.kept_in_place_I | dealt.moved_I).any():
        raise BadInput(
            f"the ledger in {champion} ({ledger.height} keys) knows none of these images: it belongs to other "
            "data. Where ingest.source is the wrong one, correct it; where the champion is, bring back the right "
            f"one, such as by `git checkout COMMIT -- {champion}`. {_begin_anew(champion)}"
        )


def _report(images: pl.DataFrame, ledger: pl.DataFrame, dealt: Dealt, names: list[str]) -> SplitReport:
    placed_I = dealt.place_I != UNPLACED
    class_I = np.searchsorted(dealt.label_C, images.get_column("label").to_numpy()[placed_I])
    count_CS = np.bincount(class_I * 3 + dealt.place_I[placed_I], minlength=3 * len(names)).reshape(-1, 3)
    off_C = np.abs(dealt.pool_CS - dealt.due_CS).max(axis=1)
    memory = f"ledger of {ledger.height} keys" if ledger.height else "none: no accepted release yet"
    return SplitReport(
        images=dict(zip(SPLITS, count_CS.sum(axis=0).tolist(), strict=True)),
        per_class={
            name: dict(zip(SPLITS, counts, strict=True))
            for name, counts in zip(names, count_CS.tolist(), strict=True)
        },
        memory=memory,
        kept_in_place=int(dealt.kept_in_place_I.sum()),
        train_only=tuple(name for name, small in zip(names, dealt.small_C, strict=True) if small),
        untested=tuple(name for name, counts in zip(names, count_CS.tolist(), strict=True) if not counts[TEST]),
        off_quota={name: off for name, off in zip(names, off_C.tolist(), strict=True) if off},
        ready_made=tuple(images.get_column("split").unique().drop_nulls().sort()),
        leaked=int(dealt.leaked_I.sum()),
        quarantined=tuple(images.filter(~placed_I).get_column("name").sort()),
    )


def _refuse_moves(images: pl.DataFrame, dealt: Dealt, champion: Path, report: SplitReport) -> None:
    moved = images.filter(dealt.moved_I)
    if moved.height:
        raise Refused(
            f"{moved.height} image(s) would leave the split in which the accepted release has them, because the "
            f"ready-made splits say so: {_first(moved)}. Put them back. {_begin_anew(champion)}",
            report,
        )


def _refuse_leaks(images: pl.DataFrame, dealt: Dealt, allowed: int, report: SplitReport) -> None:
    if report.leaked > allowed:
        raise Refused(
            f"{report.leaked} image(s) of val and test have their own bytes or group in another split too: "
            f"{_first(images.filter(dealt.leaked_I))}. split.max_leaked allows {allowed}. Remove the copies from "
            "one of the splits, or leave the splitting to this step.",
            report,
        )


def _refuse_small_classes(least: int, dealt: Dealt, report: SplitReport) -> None:
    """Refuse when a class has too few images for every split that is dealt here."""
    number_C = dealt.pool_CS.sum(axis=1)[dealt.small_C].tolist()
    small = dict(zip(report.train_only, number_C, strict=True))
    if not small:
        return
    (name, number), *others = small.items()
    splits = sum(share > 0 for share in dealt.shares_S)
    wanted = f"{splits} splits of at least {least} need {splits * least}" if splits > 1 else f"train needs {least}"
    stays = "; what the accepted release has placed stays in its split" if number >= splits * least else ""
    as_well = ", ".join(f"'{other}' ({has})" for other, has in others[:SHOWN]) + _more(len(others))
    raise Refused(
        f"class '{name}' has {_images(number)}; {wanted}{stays}. "
        f"{f'So do {as_well}. ' if others else ''}"
        "Add images or lower split.min_per_class; split.small_classes: train_only keeps such classes in train.",
        report,
    )


def _refuse_lacking(least: int, dealt: Dealt, names: list[str], report: SplitReport) -> None:
    """Refuse when a class has nothing to train on, or groups too large to be shared out."""
    lacking_CS = (dealt.pool_CS < least) & (np.asarray(dealt.shares_S) > 0) & ~dealt.small_C[:, None]
    for number, name in enumerate(names):
        if not report.per_class[name]["train"]:
            raise Refused(f"class '{name}' has no image in train, so it cannot be learned. Add images.", report)
        if lacking_CS[number].any():
            place = int(lacking_CS[number].argmax())
            raise Refused(
                f"class '{name}' gets {_images(int(dealt.pool_CS[number, place]))} in {SPLITS[place]}, where "
                f"{least} are wanted: its groups are too large to be shared out. Name finer groups, add images or "
                "lower split.min_per_class.",
                report,
            )


def _refuse_untested(allowed: int, report: SplitReport) -> None:
    """Refuse when the ready-made test has no image of some classes: no form could be shown to work on them."""
    untested = [name for name in report.untested if name not in report.train_only]
    if len(untested) > allowed:
        named = ", ".join(f"'{name}'" for name in untested[:SHOWN]) + _more(len(untested))
        raise Refused(
            f"{len(untested)} class(es) have no image in the ready-made test: {named}. "
            f"split.max_untested_classes allows {allowed}. Add test images of them, or leave the splitting to "
            "this step.",
            report,
        )


def _say_taken(report: SplitReport) -> None:
    """Say which of val and test were cut from a ready-made train: whoever made splits may think they are all."""
    for name in SPLITS[1:] if "train" in report.ready_made else ():
        if name not in report.ready_made:
            say(f"split: {name}: {_images(report.images[name])} taken from train, as none was given.")


def _say_copies(test: pl.DataFrame) -> None:
    """Say how many test images prove nothing more: a test set that looks large may be a few images."""
    copies = test.height - test["checksum"].n_unique()
    if copies:
        named = f"{copies} of {test.height} test images"
        say(f"split: {named} have the bytes of another, and the gate counts each once.")


def _begin_anew(champion: Path) -> str:
    return (
        f'To begin anew, write {{"accepted": false}} into {champion / "champion.json"}: then no image keeps its '
        "split, and nothing is compared with the release in production until the next `make accept`."
    )


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def _first(images: pl.DataFrame) -> str:
    names = images.sort("name").get_column("name").head(SHOWN).to_list()
    return ", ".join(names) + _more(images.height)


def _more(number: int) -> str:
    """Return how many more there are than are shown."""
    return f" and {number - SHOWN} more" if number > SHOWN else ""


if __name__ == "__main__":
    run_step(split)
