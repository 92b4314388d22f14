"""Facts and faults of every image of a data set; each image is read and decoded once, on all cores."""

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
CHUNK = 32  # images per task of a worker; a larger number would make the progress bar jump with large photographs
FACTS = {name: SCHEMA[name] for name in Facts._fields}


def take_inventory(images: pl.DataFrame, root: Path) -> pl.DataFrame:
    """Return `images` (columns file, offset, length) with the facts of each image.

    A length of -1 means the whole file; the returned length is the true number of bytes. A file that crashes the
    decoder gets the fault decoder_crash.
    """
    places = (FileRange(*row) for row in images.select("file", "offset", "length").iter_rows())
    inspect = partial(inspect_images, Path(os.path.realpath(root)))
    workers = max(1, min(usable_cores(), images.height // CHUNK))
    chunks = map_in_processes(inspect, _chunked(places, CHUNK), _crashed, workers)
    facts = track(chain.from_iterable(chunks), "ingest: reading", images.height, "images")
    frames = [pl.DataFrame(chunk, schema=FACTS, orient="row") for chunk in _chunked(facts, 4096)]
    return images.drop("length").hstack(pl.concat([pl.DataFrame(schema=FACTS), *frames]))


def mark(rows: pl.DataFrame, names: Sequence[str], fault: str) -> pl.DataFrame:
    """Return `rows`, where the images called `names` now have `fault` as their only fault."""
    is_named = pl.col("name").is_in(list(names))
    return rows.with_columns(
        faults=pl.when(is_named).then(pl.lit([fault])).otherwise(pl.col("faults")),
        detail=pl.when(is_named).then(pl.lit(None, dtype=pl.String)).otherwise(pl.col("detail")),
    )


def _crashed(place: FileRange) -> Facts:
    return Facts(length=max(place.length, 0), faults=("decoder_crash",), detail="the decoder's process crashed")


def _chunked(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
