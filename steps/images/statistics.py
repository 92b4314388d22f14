"""Figures of a manifest, and the rows that break an expectation. All functions work on whole columns.

A table of failing rows has the columns name, label and detail (what is wrong with this image).
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice, pairwise
from pathlib import PurePosixPath

import polars as pl

from steps.images.faults import FAULTS, UNREADABLE, Kind, faults_of

SHOWN_IDS = 100


@dataclass(frozen=True)
class Statistics:
    """A manifest and the limits to check it against. Valid labels are class ids 0 .. class_num - 1."""

    manifest: pl.DataFrame
    class_num: int
    names: dict[int, str]
    min_side: int
    max_imbalance: float | None

    @cached_property
    def sound(self) -> pl.DataFrame:
        """The images that can be read."""
        return self.manifest.filter(~pl.col("faults").list.eval(pl.element().is_in(list(UNREADABLE))).list.any())

    @cached_property
    def class_sizes(self) -> pl.DataFrame:
        """The number of readable images per class: columns label and images, ordered by label; no empty class."""
        in_range = self.sound.filter(pl.col("label").is_between(0, self.class_num - 1))
        return in_range.group_by("label").agg(pl.len().alias("images")).sort("label")

    @cached_property
    def copies(self) -> pl.DataFrame:
        """The readable images that share their bytes with another image; `first` names the first of those."""
        columns = self.sound.select("name", "label", "checksum").drop_nulls("checksum")
        short = pl.col("checksum").str.slice(0, 16).str.to_integer(base=16, dtype=pl.UInt64, strict=False)
        repeated = columns.filter(short.is_duplicated())  # 8 bytes first: needs far less memory than 64 characters
        repeated = repeated.filter(pl.col("checksum").is_duplicated()).sort("name")
        return repeated.with_columns(
            pl.col("name").first().over("checksum").alias("first"),
            pl.col("label").min().over("checksum").alias("least_label"),
            pl.col("label").max().over("checksum").alias("last_label"),
        )

    def name(self, label: int) -> str:
        """Return the class's name, or its number where the class has no name."""
        return self.names.get(label, str(label))

    def named(self, column: str) -> pl.Expr:
        """Return the class names of a column of labels."""
        numbers = pl.col(column)
        return numbers.replace_strict(self.names, default=numbers.cast(pl.String), return_dtype=pl.String)


Rows = Callable[[Statistics], pl.DataFrame]
ClassFigure = Callable[[Statistics], tuple[int, list[str]]]


def out_of_range(data: Statistics) -> pl.DataFrame:
    """Return the images with a label outside 0 .. class_num - 1."""
    found = data.manifest.filter(~pl.col("label").is_between(0, data.class_num - 1))
    return _with_detail(found, pl.format("label {}", "label"))


def with_fault(kind: Kind) -> Rows:
    """Return the function that finds the images with a fault of this kind."""
    names = list(faults_of(kind))
    meanings = {name: f"{name}: {FAULTS[name].meaning}" for name in names}

    def find(data: Statistics) -> pl.DataFrame:
        seen = pl.col("faults").list.eval(pl.element().filter(pl.element().is_in(names)))
        found = data.manifest.with_columns(seen.alias("seen")).filter(pl.col("seen").list.len() > 0)
        reasons = pl.col("seen").list.eval(pl.element().replace_strict(meanings, default="")).list.join(", ")
        decoder = pl.when(pl.col("detail").is_not_null()).then(pl.format("; {}", "detail")).otherwise(pl.lit(""))
        return _with_detail(found, reasons + (decoder if kind == "unreadable" else pl.lit("")))

    return find


def too_small(data: Statistics) -> pl.DataFrame:
    """Return the images that have a side shorter than `min_side` pixels."""
    found = data.sound.filter(pl.min_horizontal("width", "height") < data.min_side)
    return _with_detail(found, pl.format("{} x {} pixels", "width", "height"))


def duplicates(data: Statistics) -> pl.DataFrame:
    """Return the images that repeat the bytes of an earlier image (in the order of names) with the same label."""
    one_label = pl.col("least_label") == pl.col("last_label")
    found = data.copies.filter(one_label & (pl.col("name") != pl.col("first")))
    return _with_detail(found, pl.format("the same bytes as {}", "first"))


def conflicting(data: Statistics) -> pl.DataFrame:
    """Return the images whose bytes also appear in another class."""
    found = data.copies.filter(pl.col("least_label") != pl.col("last_label"))
    least = pl.col("label") == pl.col("least_label")
    other = pl.when(least).then("last_label").otherwise("least_label")
    of_least = pl.col("name").filter(least).first().over("checksum")
    of_last = pl.col("name").filter(pl.col("label") == pl.col("last_label")).first().over("checksum")
    found = found.with_columns(
        other.alias("other"), pl.when(least).then(of_last).otherwise(of_least).alias("other_name")
    )
    detail = "labelled '{}', but {} with the same bytes is labelled '{}'"
    return _with_detail(found, pl.format(detail, data.named("label"), "other_name", data.named("other")))


def unused_ids(data: Statistics) -> tuple[int, list[str]]:
    """Return how many class ids have no image, and the first such ids."""
    return data.class_num - data.class_sizes.height, [str(number) for number in first_unused(data)]


def first_unused(data: Statistics) -> tuple[int, ...]:
    """Return the first 100 class ids that have no readable image; the number of such ids may be very large."""
    used = chain([-1], data.class_sizes.get_column("label"), [data.class_num])
    gaps: Iterator[int] = chain.from_iterable(range(low + 1, high) for low, high in pairwise(used))
    return tuple(islice(gaps, SHOWN_IDS))


def only_class(data: Statistics) -> str:
    """Return the refusal of a data set with one class; often `ingest.source` is one folder above the classes."""
    images = f"all {data.manifest.height} images are of one class, '{data.name(0)}'"
    sentence = f"{images}; a classifier needs two or more classes."
    folders = {PurePosixPath(name).parent for name in data.manifest.get_column("name")}
    above = PurePosixPath(os.path.commonpath(folders or [""]))
    below = sorted({folder.relative_to(above).parts[0] for folder in folders if folder != above})
    if len(below) < 2:
        return f"{sentence} Add images of another class."
    classes = f"{', '.join(below[:3])}{', ...' if len(below) > 3 else ''}"
    return f"{sentence} If the classes are {classes}, let ingest.source end in {above}, the folder above them."


def numbering(data: Statistics) -> str:
    """Return the advice on wrong class ids; the range of the labels decides which advice helps."""
    labels = data.manifest.get_column("label")
    lowest, highest = labels.min(), labels.max()
    if not isinstance(lowest, int) or not isinstance(highest, int) or lowest < 0:
        return "Ids start at 0: correct these labels."
    count = labels.n_unique()
    if lowest > 0 and count < highest - lowest + 1:
        return (
            f"The labels are {count} different integers from {lowest} to {highest}, with gaps. Number the classes "
            f"from 0 to {count - 1} without gaps, or set ingest.labels: names, so that ingest numbers them."
        )
    if lowest > 0:
        return (
            f"The labels go from {lowest} to {highest}, so they seem to start at {lowest}: subtract {lowest} from "
            "each."
        )
    if highest >= data.class_num:
        return f"Ids start at 0: correct these labels, or set class_num: {highest + 1}."
    if highest < data.class_num - 1:
        return f"The largest id is {highest}: set class_num: {highest + 1}, add the missing images, or allow more."
    carriers = data.manifest.filter(labels == highest).get_column("name").sort()
    has_gap_below = not (labels == highest - 1).any()  # then the largest id itself may be wrong
    largest = f"; the largest id, {highest}, is the label of {_shown(carriers)}" if has_gap_below else ""
    return f"Number the classes from 0 without gaps and add the missing images, or allow more{largest}."


def _shown(names: pl.Series) -> str:
    """Return the number of images and the first three names."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    images = "1 image" if len(names) == 1 else f"{len(names)} images"
    return f"{images}: {', '.join(names.head(3))}{more}"


def small_classes(data: Statistics) -> tuple[int, list[str]]:
    """Return how many classes have fewer images than the largest class / `max_imbalance`, the smallest first."""
    sizes = data.class_sizes.sort("images", "label")
    if data.max_imbalance is None or sizes.is_empty():
        return 0, []
    small = sizes.filter(pl.col("images") * data.max_imbalance < pl.col("images").max())
    return small.height, [f"{data.name(label)} ({images})" for label, images in small.head(SHOWN_IDS).rows()]


def imbalance(data: Statistics) -> float | None:
    """Return the size of the largest class divided by that of the smallest; empty classes do not count."""
    if data.class_sizes.is_empty():
        return None
    smallest, largest = data.class_sizes.select(low=pl.col("images").min(), high=pl.col("images").max()).row(0)
    return float(largest / smallest)


def _with_detail(found: pl.DataFrame, detail: pl.Expr) -> pl.DataFrame:
    return found.select("name", "label", detail.alias("detail"))
