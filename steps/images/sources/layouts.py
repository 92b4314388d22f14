"""The layouts that a source can have, and how ingest.layout: auto chooses one."""

import errno
from collections.abc import Callable
from pathlib import Path

from steps.errors import NOT_IN_GIT, BadInput, Refused
from steps.images.inspection import EXTENSIONS
from steps.images.sources.folders import (
    class_folders,
    read_folders,
    read_split_folders,
    refuse_hidden,
    split_folders,
)
from steps.images.sources.idx import IMAGES_FILE, find_idx, read_idx
from steps.images.sources.listing import Listing, Source
from steps.images.sources.lists import LIST_EXTENSIONS, find_lists, read_lists
from steps.images.sources.samples import read_sample
from steps.images.sources.tables import TABLE_EXTENSIONS, find_tables, read_tables

LAYOUTS: dict[str, Callable[[Source], Listing]] = {
    "folders": read_folders,
    "split_folders": read_split_folders,
    "list": read_lists,
    "table": read_tables,
    "idx": read_idx,
    "sample": read_sample,
}


def read_source(source: Source, layout: str) -> tuple[str, Listing]:
    """Return the layout's name ("auto" becomes the name of the layout found) and the images of `source`."""
    try:
        if not source.path.exists():
            raise BadInput(
                f"ingest.source: {source.path} is not there; name a folder, list, table or sample. {NOT_IN_GIT}"
            )
        if layout == "auto":
            layout = find_layout(source)
        return layout, LAYOUTS[layout](source)
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Refused(  # images in a folder that cannot be read must not be missing silently
            f"{fault.filename or source.path} cannot be read ({fault.strerror}), so its images would be left out. "
            "Give this user the right to read it (chmod u+rX), or move it out of the source."
        ) from fault


def find_layout(source: Source) -> str:
    """Return the layout of `source`; refuse a source that fits no layout or several layouts.

    The data decides the layout, so what the data leaves open is a refusal (exit 3) and not a fault of the params.
    """
    if source.lists:
        return "list"
    found = _of_folder(source) if source.path.is_dir() else _of_file(source.path)
    if len(found) == 1:
        return next(iter(found))
    if not found:
        if source.path.is_dir():
            refuse_hidden(source.path)
            _refuse_images_without_class(source.path)
        raise Refused(
            f"nothing to read: {source.path} holds no class folder, list, table or idx file. Put the images there "
            f"as <class>/<image>, or set ingest.layout. {NOT_IN_GIT}"
        )
    signs = "; ".join(f"{layout} ({sign})" for layout, sign in found.items())
    raise Refused(f"{source.path} fits more than one layout: {signs}. Choose one with ingest.layout.")


def _refuse_images_without_class(root: Path) -> None:
    images = sorted(path.name for path in root.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file())
    if images:
        raise Refused(
            f"{root} holds {len(images)} image(s), such as {images[0]}, and no class folder, list or table, so "
            "the images have no class. Put each image into a folder of its class (<class>/<image>), or add a list."
        )


def _of_file(path: Path) -> dict[str, str]:
    extension = path.suffix.lower()
    signs = {
        "sample": extension in {".yaml", ".yml"},
        "table": extension in TABLE_EXTENSIONS,
        "list": extension in LIST_EXTENSIONS,
        "idx": IMAGES_FILE.fullmatch(path.name) is not None,
    }
    return {layout: extension for layout, is_so in signs.items() if is_so}


def _of_folder(source: Source) -> dict[str, str]:
    """Return {layout: what shows it}. Lists and tables in a folder name the images in its subfolders."""
    root = source.path
    lists, tables, idx = find_lists(root), find_tables(source), find_idx(root)
    found = {"list": ", ".join(lists.values())} if lists else _of_subfolders(root)
    if tables:
        found["table"] = tables[0].name
    if idx:
        found["idx"] = idx[0].name
    return found


def _of_subfolders(root: Path) -> dict[str, str]:
    names = class_folders(root)
    splits = split_folders(root)
    classes = [name for name in names if name not in splits]
    inner = [name for split in splits for name in class_folders(root, split)]
    found = {}
    if splits and inner:
        found["split_folders"] = ", ".join(splits)
    if classes or (splits and not inner):
        found["folders"] = ", ".join((classes or names)[:3])
    return found
