"""Invented sources and their listings, for tests."""

from pathlib import Path
from typing import Any

from steps.images.sources.layouts import read_source
from steps.images.sources.listing import ROWS, Listing, Source


def plant(root: Path, *files: str) -> Path:
    """Create `files` below `root`. The content of the files does not matter, because listing opens no file."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.encode(errors="surrogateescape"))
    return root


def listed(path: Path, layout: str = "auto", **options: Any) -> tuple[str, Listing]:
    layout, listing = read_source(Source(path=path, **options), layout)
    assert dict(listing.rows.schema) == ROWS
    return layout, listing


def labels(listing: Listing) -> dict[str, int]:
    return dict(listing.rows.select("name", "label").iter_rows())


def splits(listing: Listing) -> dict[str, str | None]:
    return dict(listing.rows.select("name", "split").iter_rows())
