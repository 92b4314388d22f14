"""Every image of a data set, read and decoded once: its facts and faults, on all cores."""

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import polars as pl

from steps.cores import usable_cores
from steps.images.inspection import Facts, FileRange, inspect_images
from steps.images.manifest import SCHEMA
from steps.images.workers import map_in_processes
from steps.progress import track

Item = TypeVar("Item")
CHUNK = 32  # images that travel to a worker at once: few enough for a steady progress bar of large photographs
FACTS = {name: SCHEMA[name] for name in Facts._fields}


def take_inventory(images: pl.DataFrame, root: Path) -> pl.DataFrame:
    """Return `images` (columns file, offset, length; -1 for the whole file) with the facts of each.

    `length` becomes the true one. A file that kills its decoder gets the fault decoder_crash.
    """
    places = (FileRange(*row) for row in images.select("file", "offset", "length").iter_rows())
    inspect = partial(inspect_images, Path(os.path.realpath(root)))
    workers = max(1, min(usable_cores(), images.height // CHUNK))
    chunks = map_in_processes(inspect, _chunked(places, CHUNK), _crashed, workers)
    facts = track(chain.from_iterable(chunks), "ingest: reading", images.height, "images")
    frames = [pl.DataFrame(some, schema=FACTS, orient="row") for some in _chunked(facts, 4096)]
    return images.drop("length").hstack(pl.concat([pl.DataFrame(schema=FACTS), *frames]))


def mark(rows: pl.DataFrame, names: Sequence[str], fault: str) -> pl.DataFrame:
    """Return `rows` with `fault` as the only fault of those called `names`."""
    is_meant = pl.col("name").is_in(list(names))
    return rows.with_columns(
        faults=pl.when(is_meant).then(pl.lit([fault])).otherwise(pl.col("faults")),
        detail=pl.when(is_meant).then(pl.lit(None, dtype=pl.String)).otherwise(pl.col("detail")),
    )


def _crashed(place: FileRange) -> Facts:
    return Facts(length=max(place.length, 0), faults=("decoder_crash",), detail="the decoder's process died")


def _chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
