"""Split the images into train, val and test: each class by its quotas; groups and copies stay in one split.

The step reads the ledger of the accepted release, and images in that ledger never change their split. The new
ledger contains all keys of the old one.
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
    """Write manifest.parquet (usable images with split and weight), ledger.parquet and report.json; or refuse."""
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
    counts = ", ".join(f"{number} {name}" for name, number in report.images.items())
    say(f"split: {counts}, of {len(names)} classes; memory: {report.memory}.")
    _say_taken_from_train(report)
    _say_copies_in_test(with_split.filter(pl.col("split") == "test"))


def _usable(everything: pl.DataFrame, validate: Path) -> pl.DataFrame:
    """Return the images that validate did not drop."""
    refusal = read_refusal(validate / "report.json")
    if refusal is not None:
        raise BadInput(f"validate refused these images, so there is nothing to split: {refusal}")
    dropped = read_dropped(validate / "issues.parquet")
    usable = everything.filter(~pl.col("name").is_in(dropped.implode()))
    if usable.is_empty():
        raise BadInput(
            f"{validate}/issues.parquet drops all {everything.height} images; there is nothing to split."
        )
    if usable.get_column("checksum").null_count() or usable.get_column("label").null_count():
        raise BadInput("ingest's manifest has images without checksum or label; run ingest and validate again.")
    return usable


def _ledger(champion: Path) -> pl.DataFrame:
    """Return the ledger of the accepted release, after a check of its checksums; empty without such a release."""
    if not Champion.read(champion / "champion.json").accepted:
        return no_ledger()
    try:
        check_sums(champion / "release")
    except BadInput as fault:
        raise BadInput(
            f"{fault} Or restore the champion as it was accepted, e.g. with `git checkout -- {champion}`."
        ) from fault
    return read_ledger(champion / "release/ledger.parquet")


def _check_ledger(ledger: pl.DataFrame, dealt: Dealt, champion: Path) -> None:
    if ledger.height and not (dealt.kept_in_place_I | dealt.moved_I).any():
        raise BadInput(
            f"the ledger in {champion} ({ledger.height} keys) contains none of these images, so it belongs to "
            "other data. If ingest.source is wrong, correct it. If the champion is wrong, restore the right "
            f"champion, e.g. with `git checkout COMMIT -- {champion}`. {_how_to_start_again(champion)}"
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
            f"{moved.height} image(s) have a ready-made split that differs from their split in the accepted "
            f"release: {_first_names(moved)}. Move them back to their old split. {_how_to_start_again(champion)}",
            report,
        )


def _refuse_leaks(images: pl.DataFrame, dealt: Dealt, allowed: int, report: SplitReport) -> None:
    if report.leaked > allowed:
        raise Refused(
            f"{report.leaked} image(s) of val and test have their bytes or their group also in another split: "
            f"{_first_names(images.filter(dealt.leaked_I))}. split.max_leaked allows {allowed}. Remove the copies "
            "from one of the splits, or let this step make the splits.",
            report,
        )


def _refuse_small_classes(least: int, dealt: Dealt, report: SplitReport) -> None:
    """Refuse when a class has too few images for every split that is dealt here."""
    number_C = dealt.pool_CS.sum(axis=1)[dealt.small_C].tolist()
    small = dict(zip(report.train_only, number_C, strict=True))
    if not small:
        return
    (name, number), *more_classes = small.items()
    splits = sum(share > 0 for share in dealt.shares_S)
    needed = f"{splits} splits of at least {least} need {splits * least}" if splits > 1 else f"train needs {least}"
    fixed = "; images of the accepted release stay in their split" if number >= splits * least else ""
    more = ", ".join(f"'{other}' ({count})" for other, count in more_classes[:SHOWN]) + _more(len(more_classes))
    raise Refused(
        f"class '{name}' has {_images(number)}; {needed}{fixed}. "
        f"{f'Other small classes: {more}. ' if more_classes else ''}"
        "Add images or lower split.min_per_class; split.small_classes: train_only keeps such classes in train.",
        report,
    )


def _refuse_lacking(least: int, dealt: Dealt, names: list[str], report: SplitReport) -> None:
    """Refuse when a class has no image in train, or when its groups are too large for its quotas."""
    lacking_CS = (dealt.pool_CS < least) & (np.asarray(dealt.shares_S) > 0) & ~dealt.small_C[:, None]
    for number, name in enumerate(names):
        if not report.per_class[name]["train"]:
            raise Refused(f"class '{name}' has no image in train, so it cannot be learned. Add images.", report)
        if lacking_CS[number].any():
            place = int(lacking_CS[number].argmax())
            raise Refused(
                f"class '{name}' gets {_images(int(dealt.pool_CS[number, place]))} in {SPLITS[place]}, but "
                f"split.min_per_class is {least}: the groups of the class are too large. Use smaller groups, add "
                "images or lower split.min_per_class.",
                report,
            )


def _refuse_untested(allowed: int, report: SplitReport) -> None:
    """Refuse when the ready-made test lacks images of some classes, because the gate could not judge these."""
    untested = [name for name in report.untested if name not in report.train_only]
    if len(untested) > allowed:
        named = ", ".join(f"'{name}'" for name in untested[:SHOWN]) + _more(len(untested))
        raise Refused(
            f"{len(untested)} class(es) have no image in the ready-made test: {named}. "
            f"split.max_untested_classes allows {allowed}. Add test images of these classes, or let this step "
            "make the splits.",
            report,
        )


def _say_taken_from_train(report: SplitReport) -> None:
    """Say how many images of val and test were taken from a ready-made train, as the user may not expect this."""
    for name in SPLITS[1:] if "train" in report.ready_made else ():
        if name not in report.ready_made:
            say(
                f"split: {name}: {_images(report.images[name])} taken from train, because there is no ready-made "
                f"{name}."
            )


def _say_copies_in_test(test: pl.DataFrame) -> None:
    """Say how many test images are copies, because copies give the gate no further evidence."""
    copies = test.height - test["checksum"].n_unique()
    if copies:
        say(f"split: {copies} of {test.height} test images are copies of others; the gate counts each image once.")


def _how_to_start_again(champion: Path) -> str:
    return (
        f'To start again without a ledger, write {{"accepted": false}} into {champion / "champion.json"}. Then '
        "images may change their split, and the gate does not compare with the release in production until the "
        "next `make accept`."
    )


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def _first_names(images: pl.DataFrame) -> str:
    names = images.sort("name").get_column("name").head(SHOWN).to_list()
    return ", ".join(names) + _more(images.height)


def _more(number: int) -> str:
    """Return " and N more" for the names that are not shown, or an empty string."""
    return f" and {number - SHOWN} more" if number > SHOWN else ""


if __name__ == "__main__":
    run_step(split)
