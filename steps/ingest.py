"""Ingest: find the images of `ingest.source`, decode each image once, and write its facts to the manifest.

Ingest judges nothing and repairs nothing. The manifest records faults under the names of steps/images/faults.py.
"""

from pathlib import Path

import polars as pl

from steps.cli import run_step
from steps.errors import NOT_IN_GIT, Refused
from steps.images.faults import UNREADABLE
from steps.images.inventory import mark, take_inventory
from steps.images.manifest import write_manifest
from steps.images.sources.layouts import read_source
from steps.images.sources.listing import Listing, Source
from steps.images.sources.paths import path_hint
from steps.images.sources.pixels import pack_pixels
from steps.params.ingest import IngestParams
from steps.progress import say
from steps.reports.classes import Classes
from steps.reports.ingest import IngestReport

EXAMPLES = 10
LOOKED_UP = 200  # missing images for which a similar path is looked up
OF_GIT_AND_DVC = (".gitkeep", ".gitignore", ".gitattributes", ".dvcignore")


def ingest(params: IngestParams, out: Path) -> None:
    """Write manifest.parquet, classes.json and report.json, and images.tar where the source has no image files.

    Refuses a source without images, with an unknown layout or with contradictory lists.
    """
    layout, listing = read_source(_source(params), params.layout)
    if listing.pixels is None:
        root = _as_written(listing.root)
    else:
        root, listing = ".", pack_pixels(listing, out)
    rows = mark(take_inventory(listing.rows, listing.root), listing.bad_names, "bad_name")
    report = _report(rows, listing, layout, root)
    _refuse_nothing(rows, params.source, report)
    write_manifest(rows, out / "manifest.parquet")
    Classes(names=listing.class_names).write(out / "classes.json")
    report.write(out / "report.json")
    _say(report)


def _source(params: IngestParams) -> Source:
    return Source(
        path=Path(params.source),
        lists=dict(params.lists.items()),
        delimiter=params.delimiter,
        columns=params.columns.model_dump(exclude_none=True),
        labels=params.labels,
        label_names=params.label_names,
        alike_names=params.alike_names,
    )


def _as_written(root: Path) -> str:
    """Return the root as params.yaml has it; the project's folder is "./", because "." means data/ingest."""
    return "./" if root == Path() else root.as_posix()


def _report(rows: pl.DataFrame, listing: Listing, layout: str, root: str) -> IngestReport:
    splits = _counts(rows["split"].drop_nulls())
    trained = set(rows.filter(pl.col("split").is_null() | (pl.col("split") == "train"))["label"])
    untrained = set(rows["label"]) - trained
    skipped = tuple(name for name in listing.skipped if not _is_of_git_or_dvc(name))
    return IngestReport(
        root=root,
        layout=layout,
        images=rows.height,
        classes=len(listing.class_names),
        ready_splits=splits,
        sources=_counts(rows["source"]),
        faults=_counts(rows["faults"].explode().drop_nulls()),
        classes_without_train=tuple(listing.class_names[label] for label in sorted(untrained)),
        skipped=len(skipped),
        skipped_examples=skipped[:EXAMPLES],
        notes=(*listing.notes, *_not_images(rows), *_misspelt(rows, listing.root)),
    )


def _not_images(rows: pl.DataFrame) -> tuple[str, ...]:
    """Return a note with the number of files of each kind that is not an image."""
    kinds = rows.filter(pl.col("faults").list.contains("not_an_image"))["detail"].fill_null("of an unknown kind")
    if kinds.is_empty():
        return ()
    counts = kinds.value_counts().sort(["count", "detail"], descending=[True, False])
    shown = ", ".join(f"{count} x {kind}" for kind, count in counts.head(EXAMPLES).iter_rows())
    return (f"{len(kinds)} file(s) are not images: {shown}",)


def _misspelt(rows: pl.DataFrame, root: Path) -> tuple[str, ...]:
    """Return a note about images that are not there, although a file with a similar path is."""
    missing = rows.filter(pl.col("faults").list.contains("missing"))["name"]
    hint = next((hint for name in missing.head(LOOKED_UP) if (hint := path_hint(root, name))), None)
    return (f"{len(missing)} image(s) are missing; {hint}",) if hint else ()


def _is_of_git_or_dvc(name: str) -> bool:
    """Tell whether git or dvc puts a file of this name beside images; the report need not mention such files."""
    return Path(name).name in OF_GIT_AND_DVC or name.endswith(".dvc")


def _counts(values: pl.Series) -> dict[str, int]:
    return dict(sorted(values.value_counts().iter_rows()))


def _refuse_nothing(rows: pl.DataFrame, source: str, report: IngestReport) -> None:
    if rows.is_empty():
        found = f" Ingest skipped {report.skipped} file(s) or folder(s) there." if report.skipped else ""
        raise Refused(f"nothing to read: {source} contains no images.{found} {NOT_IN_GIT}", report)
    readable = rows.filter(pl.col("faults").list.set_intersection(list(UNREADABLE)).list.len() == 0)
    if readable.is_empty():
        name, faults, detail = rows.select("name", "faults", "detail").row(0)
        reason = f"{', '.join(faults)}; {detail}" if detail else ", ".join(faults)
        notes = "".join(f" Note: {sentence}." for sentence in report.notes)
        raise Refused(
            f"none of the {rows.height} images of {source} can be read, e.g. {name} ({reason}).{notes}", report
        )


def _say(report: IngestReport) -> None:
    say(f"ingest: {report.images} images in {report.classes} classes ({report.layout})")
    for sentence in report.notes:
        say(f"ingest: note: {sentence}.")
    if report.skipped:
        examples = ", ".join(report.skipped_examples)
        say(f"ingest: skipped {report.skipped} file(s) or folder(s) that are not images: {examples}")
    if report.faults:
        counts = ", ".join(f"{fault} {count}" for fault, count in report.faults.items())
        say(f"ingest: recorded faults, which validate will judge: {counts}")


if __name__ == "__main__":
    run_step(ingest)
