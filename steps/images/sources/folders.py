"""Images in one folder per class, with or without ready-made train/, val/ and test/ above the class folders."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from steps.errors import BadInput, Refused
from steps.images.sources.labels import names_in_label_file, number_classes
from steps.images.sources.listing import SPLIT_NAMES, Listing, Source, plain_files
from steps.images.sources.paths import as_utf8, is_inside, is_utf8

LEFT_OUT_FOLDERS = {  # folders that programs create beside images, by exact name; every other folder is a class
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__",
    ".git", ".svn", ".hg", ".dvc", ".foldline", ".ipynb_checkpoints", ".idea", ".vscode", ".cache", ".thumbnails",
    ".appledouble", ".fseventsd", ".spotlight-v100", ".trashes", ".temporaryitems",
}  # fmt: skip
LITTER_NAMES = {"thumbs.db", "desktop.ini", "readme", "license", "licence", "makefile"}
LITTER_EXTENSIONS = {
    ".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".xml", ".html", ".htm", ".log",
    ".py", ".ipynb", ".sh", ".pdf", ".doc", ".docx", ".xlsx", ".lst", ".list", ".parquet", ".dvc", ".db", ".ini",
}  # fmt: skip


def is_litter(name: str) -> bool:
    """Tell whether a file with this name is clearly not an image: a hidden file, or text beside the images."""
    lower = name.lower()
    return lower.startswith(".") or lower in LITTER_NAMES or Path(lower).suffix in LITTER_EXTENSIONS


def is_left_out(folder: Path) -> bool:
    """Tell whether a folder is not part of the data set; refuse a hidden folder that may contain images."""
    if folder.name.lower() in LEFT_OUT_FOLDERS:
        return True
    if not folder.name.startswith("."):
        return False
    if folder.is_symlink() or any(files for _, _, files in os.walk(folder)):
        raise Refused(
            f"the folder {str(folder)!r} is hidden but contains files. If the files are images, remove the dot "
            "from the folder's name; otherwise move the folder away."
        )
    return True


def read_folders(source: Source) -> Listing:
    """Return the images below `source`; the name of the folder in `source` is the image's class."""
    folders = class_folders(source.path)
    if folders and all(name.lower() in SPLIT_NAMES for name in folders):
        raise BadInput(
            f"the folders of {source.path} are called {', '.join(folders)}: ingest.layout: folders would take "
            "these names as classes. Set ingest.layout: split_folders."
        )
    return _listing(source, [""], {name: (name, None) for name in folders})


def read_split_folders(source: Source) -> Listing:
    """Return the images below train/, val/ and test/ of `source`; these folders are the images' splits."""
    splits = split_folders(source.path)
    classes = {above: class_folders(source.path, above) for above in splits}
    folders = {f"{above}/{name}": (name, splits[above]) for above, names in classes.items() for name in names}
    return _listing(source, ["", *splits], folders)


def split_folders(root: Path) -> dict[str, str]:
    """Return {folder: split} of the ready-made splits; raise BadInput if two folders mean the same split."""
    splits = {name: SPLIT_NAMES[name.lower()] for name in class_folders(root) if name.lower() in SPLIT_NAMES}
    for split in splits.values():
        same = [folder for folder, meaning in splits.items() if meaning == split]
        if len(same) > 1:
            raise BadInput(f"{root}: the folders {' and '.join(same)} both mean {split}; keep one of them.")
    return splits


def refuse_hidden(root: Path, above: Iterable[str] = ("",)) -> None:
    """Refuse a hidden folder in one of the folders `above` if it contains files, because it may be a class."""
    for path in chain.from_iterable((root / place).iterdir() for place in above):
        if path.is_dir():
            is_left_out(path)


def class_folders(root: Path, below: str = "") -> list[str]:
    """Return the sorted names of the class folders in `root`/`below`; refuse a folder that cannot be a class.

    Hidden folders are not returned; `is_left_out` handles hidden folders.
    """
    names = [path.name for path in (root / below).iterdir() if path.is_dir()]
    folders = sorted(name for name in names if name.lower() not in LEFT_OUT_FOLDERS and name[0] != ".")
    for name in folders:
        where = root / below / name
        if not is_utf8(name):
            raise Refused(f"the folder {str(where)!r} has a name that is not UTF-8; rename it.")
        if not is_inside(root, where):
            raise Refused(
                f"the folder {where} is a link to a place outside {root}; copy the images into {root}, or let "
                "ingest.source name the other place."
            )
    return folders


def _listing(source: Source, above: Sequence[str], folders: Mapping[str, tuple[str, str | None]]) -> Listing:
    """Return the images of {folder: (class, split)}; every folder lies in one of the folders `above`.

    A class with an empty folder also gets an id.
    """
    skipped_above = _skipped_above(source.path, above, folders)
    found = {folder: _tree(source.path, folder) for folder in folders}
    files = list(chain.from_iterable(tree.images for tree in found.values()))
    of_file = [folders[folder] for folder, tree in found.items() for _ in tree.images]
    kind = "names" if source.labels == "auto" else source.labels
    classes = sorted({label for label, _ in folders.values()})
    ids, class_names, notes = number_classes(Counter(classes), kind, names_in_label_file(source))
    return Listing(
        root=source.path,
        rows=plain_files(
            file=[as_utf8(name) for name in files],
            label=[ids[label] for label, _ in of_file],
            split=[split for _, split in of_file],
        ),
        class_names=class_names,
        skipped=tuple(as_utf8(name) for name in chain(skipped_above, *(tree.skipped for tree in found.values()))),
        bad_names=tuple(as_utf8(name) for name in files if not is_utf8(name)),
        notes=notes,
    )


class Tree(NamedTuple):
    """The contents of a class folder, as sorted paths relative to the root; a skipped folder ends in a slash."""

    images: list[str]
    skipped: list[str]


def _tree(root: Path, folder: str) -> Tree:
    """Return the possible images and the skipped paths below `root`/`folder`; a linked folder counts as a file."""
    tree = Tree([], [])
    for above, folders, files in os.walk(root / folder):
        relative = os.path.relpath(above, root)
        left_out = [name for name in folders if is_left_out(Path(above, name))]
        linked = [name for name in folders if name not in left_out and Path(above, name).is_symlink()]
        folders[:] = [name for name in folders if name not in left_out]
        tree.skipped.extend(f"{relative}/{name}/" for name in left_out)
        for name in files:
            (tree.skipped if is_litter(name) else tree.images).append(f"{relative}/{name}")
        tree.images.extend(f"{relative}/{name}" for name in linked)
    return Tree(sorted(tree.images), sorted(tree.skipped))


def _skipped_above(root: Path, above: Iterable[str], folders: Iterable[str]) -> list[str]:
    """Return the skipped paths beside the class folders; refuse possible images there, as they have no class."""
    known = {root / folder for folder in (*above, *folders)}
    beside = sorted(path for place in above for path in (root / place).iterdir() if path not in known)
    images = [path for path in beside if not path.is_dir() and not is_litter(path.name)]
    if images:
        raise Refused(
            f"{images[0]} lies beside the class folders, so it has no class ({len(images)} such file(s)). Move "
            "each file into a class folder, or out of this folder."
        )
    refuse_hidden(root, above)
    return [str(path.relative_to(root)) + "/" * path.is_dir() for path in beside]
