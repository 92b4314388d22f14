"""Images in one folder per class, with or without ready-made train/, val/ and test/ above the class folders."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from steps.errors import BadInput, Refused
from steps.images.sources.label_files import names_in_label_file
from steps.images.sources.labels import number_classes
from steps.images.sources.listing import SPLIT_NAMES, Listing, Source, plain_files
from steps.images.sources.paths import as_utf8, is_inside, is_utf8, walk

LEFT_OUT_FOLDERS = {  # folders that programs create beside images, by exact name; every other folder is a class
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__",
    ".git", ".svn", ".hg", ".dvc", ".foldline", ".ipynb_checkpoints", ".idea", ".vscode", ".cache", ".thumbnails",
    ".appledouble", ".fseventsd", ".spotlight-v100", ".trashes", ".temporaryitems",
}  # fmt: skip
EXAMPLES = 5
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
    if folder.is_symlink() or any(files for _, _, files in walk(folder)):
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
    splits = [name for name in folders if name.lower() in SPLIT_NAMES and class_folders(source.path, name)]
    if len({SPLIT_NAMES[name.lower()] for name in splits}) > 1:
        raise BadInput(
            f"ingest.layout: folders would take {', '.join(splits)} in {source.path} as classes, and merge the "
            "class folders below. Set ingest.layout: split_folders, or let ingest.source name one of them."
        )
    return _listing(source, [""], {name: (name, None) for name in folders})


def read_split_folders(source: Source) -> Listing:
    """Return the images below train/, val/ and test/ of `source`; these folders are the images' splits."""
    splits = split_folders(source.path)
    if not splits:
        raise BadInput(
            f"ingest.layout: split_folders needs a folder called train, val or test in {source.path}. Let "
            "ingest.source name the folder above these folders, or set ingest.layout: folders."
        )
    classes = {above: class_folders(source.path, above) for above in splits}
    folders = {f"{above}/{name}": (name, splits[above]) for above, names in classes.items() for name in names}
    return _listing(source, ["", *splits], folders)


def split_folders(root: Path) -> dict[str, str]:
    """Return {folder: split} of the ready-made splits; refuse two folders that mean the same split.

    As with two layouts, the images are at fault and no param is, so the exit code is that of a refusal.
    """
    splits = {name: SPLIT_NAMES[name.lower()] for name in class_folders(root) if name.lower() in SPLIT_NAMES}
    for split in splits.values():
        same = [folder for folder, meaning in splits.items() if meaning == split]
        if len(same) > 1:
            raise Refused(f"{root}: the folders {' and '.join(same)} both mean {split}; keep one of them.")
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

    A class with an empty folder also gets an id. Blanks around a folder's name are no part of the class name.
    """
    _refuse_blanks({name for name, _ in folders.values()})
    folders = {folder: (name.strip(), split) for folder, (name, split) in folders.items()}
    skipped_above = _skipped_above(source.path, above, folders)
    found = {folder: _tree(source.path, folder) for folder in folders}
    files = list(chain.from_iterable(tree.images for tree in found.values()))
    of_file = [folders[folder] for folder, tree in found.items() for _ in tree.images]
    kind = "names" if source.labels == "auto" else source.labels
    classes = sorted({label for label, _ in folders.values()})
    listed = names_in_label_file(source)
    ids, class_names, notes = number_classes(Counter(classes), kind, listed, similar=source.alike_names)
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
        notes=(*notes, *_nested(found), *_empty(found), *_left_out(source.path, skipped_above)),
    )


def _refuse_blanks(names: set[str]) -> None:
    """Refuse two folder names that differ only in the blanks around them."""
    for name in sorted(names):
        if name != name.strip() and name.strip() in names:
            raise Refused(
                f"the class folders '{name}' and '{name.strip()}' differ only in the blanks around the name. "
                "Blanks are no part of a class name; rename one folder, or move its images into the other folder."
            )


class Tree(NamedTuple):
    """The contents of a class folder, as sorted paths relative to the root; a skipped folder ends in a slash."""

    images: list[str]
    skipped: list[str]


def _tree(root: Path, folder: str) -> Tree:
    """Return the possible images and the skipped paths below `root`/`folder`; a linked folder counts as a file."""
    tree = Tree([], [])
    for above, folders, files in walk(root / folder):
        relative = os.path.relpath(above, root)
        left_out = [name for name in folders if is_left_out(Path(above, name))]
        linked = [name for name in folders if name not in left_out and Path(above, name).is_symlink()]
        folders[:] = [name for name in folders if name not in left_out]
        tree.skipped.extend(f"{relative}/{name}/" for name in left_out)
        for name in files:
            (tree.skipped if is_litter(name) else tree.images).append(f"{relative}/{name}")
        tree.images.extend(f"{relative}/{name}" for name in linked)
    return Tree(sorted(tree.images), sorted(tree.skipped))


def _nested(found: Mapping[str, Tree]) -> tuple[str, ...]:
    """Return a note about folders below class folders; refuse splits below a class folder.

    A folder below a class folder, such as a session or a film, is part of the class and is not a class.
    """
    below: Counter[str] = Counter()
    classes: set[str] = set()
    for folder, tree in found.items():
        depth = len(Path(folder).parts)
        inner = Counter(name.rpartition("/")[0] for name in tree.images)
        inner = Counter({path: count for path, count in inner.items() if len(Path(path).parts) > depth})
        below.update(inner)
        classes.update(Path(folder).name for _ in inner)
        parts = {Path(path).parts[depth] for path in inner}
        splits = {SPLIT_NAMES[part.lower()] for part in parts if part.lower() in SPLIT_NAMES}
        if len(splits) > 1:
            ready = sorted(part for part in parts if part.lower() in SPLIT_NAMES)
            raise Refused(
                f"the class folder {folder} holds the folders {', '.join(ready)}, which look like ready-made "
                f"splits, and would be merged. Put the splits above the classes ({ready[0]}/{Path(folder).name}), "
                "or rename these folders if they are no splits."
            )
    if not below:
        return ()
    shown = ", ".join(as_utf8(name) for name in sorted(below)[:EXAMPLES])
    more = f" and {len(below) - EXAMPLES} more" if len(below) > EXAMPLES else ""
    return (
        f"{sum(below.values())} images in {len(below)} folder(s) below the class folders were merged into "
        f"{len(classes)} class(es): {shown}{more}. If these folders are the classes, move each of them "
        "directly below ingest.source, or below train/, val/ and test/",
    )


def _empty(found: Mapping[str, Tree]) -> tuple[str, ...]:
    """Return a note about class folders without images, for example because all their files were skipped."""
    empty = sorted(as_utf8(folder) for folder, tree in found.items() if not tree.images)
    if not empty:
        return ()
    return (f"{len(empty)} class folder(s) hold no images: {', '.join(empty[:EXAMPLES])}",)


def _left_out(root: Path, skipped: Iterable[str]) -> tuple[str, ...]:
    """Return a note about the files in folders that lie beside ready-made splits."""
    folders = [name for name in skipped if name.endswith("/") and not is_left_out(root / name)]
    count = sum(not is_litter(file) for folder in folders for _, _, files in walk(root / folder) for file in files)
    if not count:
        return ()
    names = ", ".join(as_utf8(name) for name in folders[:EXAMPLES])
    return (f"{count} file(s) in folders beside the splits were left out: {names}",)


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
