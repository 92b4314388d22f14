"""Images in a folder a class, also below ready-made train/, val/ and test/."""

import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from steps.errors import BadInput, Refused
from steps.images.sources.labels import number_classes, read_label_names
from steps.images.sources.listing import SPLITS, Listing, Source, plain_files
from steps.images.sources.paths import as_utf8, is_inside, is_utf8

LITTER_NAMES = {"thumbs.db", "desktop.ini", "readme", "license", "licence", "__macosx", "@eadir", "makefile"}
LITTER_EXTENSIONS = {
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".xml", ".html", ".htm", ".log",
    ".py", ".ipynb", ".sh", ".pdf", ".doc", ".docx", ".xlsx", ".lst", ".list", ".parquet", ".dvc", ".db", ".ini",
}  # fmt: skip


def is_litter(name: str) -> bool:
    """Tell whether a file or folder of this name is clearly no image: hidden, or notes beside the images."""
    lower = name.lower()
    extension = Path(lower).suffix
    known = lower in LITTER_NAMES or lower.removesuffix(extension) in LITTER_NAMES
    return lower.startswith(".") or known or extension in LITTER_EXTENSIONS


def read_folders(source: Source) -> Listing:
    """Return the images below `source`, each of the class that its folder in `source` is called."""
    folders = class_folders(source.path)
    if folders and all(name.lower() in SPLITS for name in folders):
        raise BadInput(
            f"the folders of {source.path} are called {', '.join(folders)}: with ingest.layout: folders these "
            "would be the classes. Set ingest.layout: split_folders."
        )
    return _listing(source, {name: (name, None) for name in folders})


def read_split_folders(source: Source) -> Listing:
    """Return the images below train/, val/ and test/ of `source`, which keep these splits."""
    splits = split_folders(source.path)
    classes = {above: class_folders(source.path, above) for above in splits}
    folders = {f"{above}/{name}": (name, splits[above]) for above, names in classes.items() for name in names}
    return _listing(source, folders)


def split_folders(root: Path) -> dict[str, str]:
    """Return {folder: split} of the ready-made splits, or raise BadInput where one is there twice."""
    splits = {name: SPLITS[name.lower()] for name in class_folders(root) if name.lower() in SPLITS}
    for split in splits.values():
        same = [folder for folder, meant in splits.items() if meant == split]
        if len(same) > 1:
            raise BadInput(f"{root} holds {' and '.join(same)}, which both mean {split}; keep one of them.")
    return splits


def class_folders(root: Path, below: str = "") -> list[str]:
    """Return the names of the folders in `root`/`below`, sorted; refuses one that cannot be a class."""
    with os.scandir(root / below) as entries:
        folders = sorted(entry.name for entry in entries if entry.is_dir() and not is_litter(entry.name))
    for name in folders:
        where = root / below / name
        if not is_utf8(name):
            raise Refused(f"the folder {str(where)!r} has a name that is not UTF-8; rename it.")
        if not is_inside(root, where):
            raise Refused(
                f"the folder {where} is a link that leads out of {root}; put the images there, or name the place "
                "itself as ingest.source."
            )
    return folders


def _listing(source: Source, folders: Mapping[str, tuple[str, str | None]]) -> Listing:
    """Return the images of {folder: (class, split)}; a class whose folder is empty keeps its place in the map."""
    strays = _strays(source.path, {Path(folder).parent for folder in folders})
    found = {folder: _files(source.path, folder) for folder in folders}
    images = {
        folder: [file for file in files if not is_litter(Path(file).name)] for folder, files in found.items()
    }
    files = list(chain.from_iterable(images.values()))
    of_file = [folders[folder] for folder, names in images.items() for _ in names]
    given = read_label_names(source.path / source.label_names) if source.label_names else {}
    kind = "names" if source.labels == "auto" else source.labels
    classes = sorted({label for label, _ in folders.values()})
    ids, class_names, notes = number_classes(classes, kind, given)
    return Listing(
        root=source.path,
        rows=plain_files(
            file=[as_utf8(name) for name in files],
            label=[ids[label] for label, _ in of_file],
            split=[split for _, split in of_file],
        ),
        class_names=class_names,
        skipped=(*strays, *sorted(set(chain.from_iterable(found.values())) - set(files))),
        bad_names=tuple(as_utf8(name) for name in files if not is_utf8(name)),
        notes=notes,
    )


def _files(root: Path, folder: str) -> list[str]:
    """Return all files below `root`/`folder`, relative to `root`, sorted; a linked folder counts as a file."""
    found: list[str] = []
    for above, folders, files in os.walk(root / folder):
        linked = [name for name in folders if (Path(above) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not is_litter(name))
        relative = os.path.relpath(above, root)
        found += [f"{relative}/{name}" for name in (*files, *linked)]
    return sorted(found)


def _strays(root: Path, above: set[Path]) -> list[str]:
    """Return the litter beside the class folders; refuses other files there: they have no class."""
    places = {root, *(root / folder for folder in above)}
    beside = sorted(path for place in places for path in place.iterdir() if not path.is_dir())
    images = [path for path in beside if not is_litter(path.name)]
    if images:
        raise Refused(
            f"{images[0]} lies beside the class folders and so has no class ({len(images)} such file(s)); move "
            "each into a class folder, or away."
        )
    return [as_utf8(str(path.relative_to(root))) for path in beside]
