"""From written labels to class ids: one sorted map of classes for all splits, never one map per split."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from steps.errors import BadInput, Refused, did_you_mean
from steps.images.sources.listing import LabelKind, Source
from steps.images.sources.paths import is_inside

INTEGER = re.compile(r"-?\d{1,18}(\.0+)?")  # pandas writes "3.0" if an integer column has a missing value
SEVERAL = re.compile(r"-?\d+(\s*[,;|]\s*-?\d+)+")
LARGEST_ID = 10_000_000
SHOWN = 3
NUMBERED_NAME = re.compile(r"(-?\d+)[\s,;:]+(.+)")


def number_classes(
    sizes: Mapping[str, int],
    kind: LabelKind,
    listed: dict[int, str],
    place: Callable[[str], str] = "class '{}'".format,
) -> tuple[dict[str, int], dict[int, str], tuple[str, ...]]:
    """Return {label: id} of the labels, {id: name} of all ids, and notes for people.

    `sizes` is {label: number of images}, and `listed` is {id: name} from the label file. Integer labels are ids;
    validate checks their range. Other labels are names: a name gets its id in `listed`, or without a label file
    an id from 0 .. K-1 in sorted order. Refuses a mixture of ids and names, and a label that the label file
    lacks. `place` returns where a label is written, for messages.
    """
    distinct = sorted(sizes)
    if _are_ids(sizes, kind, place):
        ids = {label: _as_id(label, place) for label in distinct}
        _refuse_unlisted(ids, listed, place)
        names = {number: str(number) for number in ids.values()} | listed
    else:
        ids = _ids_of_names(distinct, listed, place)
        names = {number: name for name, number in ids.items()} | listed
    names, notes = _distinct_names(names)
    _check_names(names)
    return ids, dict(sorted(names.items())), notes + _renumbered(ids)


def sorted_names(names: Iterable[str]) -> list[str]:
    """Return class names in a fixed order: by value if all names are integers, otherwise by code point."""
    names = list(names)
    if all(INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)


def names_in_label_file(source: Source) -> dict[int, str]:
    """Return {id: name} from the file `ingest.label_names`, or {} where the key is not set.

    The label file must lie in the source's folder, because DVC watches only that folder.
    """
    if source.label_names is None:
        return {}
    if not source.path.is_dir():
        raise BadInput(
            f"ingest.label_names: DVC watches only the source, and {source.path} is one file; let ingest.source "
            f"name the folder that holds {source.path.name} and {source.label_names}."
        )
    if not is_inside(source.path, source.path / source.label_names):
        raise BadInput(
            f"ingest.label_names: {source.label_names} lies outside {source.path}, and DVC watches only that "
            "folder; move the label file there."
        )
    return read_label_names(source.path / source.label_names)


def read_label_names(path: Path) -> dict[int, str]:
    """Return {id: name} from lines `id name` (a name may contain spaces), or from one name per line, from id 0."""
    lines = _lines(path)
    matches = [NUMBERED_NAME.fullmatch(line) for _, line in lines]
    if not any(matches):
        return {number: line for number, (_, line) in enumerate(lines)}
    names: dict[int, str] = {}
    for (place, line), match in zip(lines, matches, strict=True):
        if match is None:
            raise Refused(f"{path} line {place}: '{line}' is not `id name`, as the other lines are; correct it.")
        number = int(match[1])
        if number in names:
            raise Refused(
                f"{path} line {place}: id {number} already has the name '{names[number]}'; an id has one name."
            )
        names[number] = match[2].strip()
    return names


def _lines(path: Path) -> list[tuple[int, str]]:
    """Return the numbered lines that are not blank."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as fault:
        raise BadInput(f"ingest.label_names: {path} cannot be read ({fault.strerror}).") from fault
    except UnicodeDecodeError as fault:
        raise Refused(f"{path} is not UTF-8 (byte {fault.start}); save it as UTF-8.") from fault
    return [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]


def _are_ids(sizes: Mapping[str, int], kind: LabelKind, place: Callable[[str], str]) -> bool:
    """Tell whether the labels are ids; refuse labels that could be ids or names."""
    if kind == "names":
        return False
    several = next((label for label in sorted(sizes) if SEVERAL.fullmatch(label)), None)
    if several is not None:
        raise Refused(
            f"{place(several)}: the label '{several}' names several classes, but an image has one class. If the "
            "label is a name, set ingest.labels: names."
        )
    integers = [label for label in sizes if INTEGER.fullmatch(label)]
    texts = [label for label in sizes if not INTEGER.fullmatch(label)]
    if texts and (kind == "ids" or integers):
        raise Refused(_mixture(sizes, integers, texts, kind, place))
    return bool(integers)


def _mixture(
    sizes: Mapping[str, int], integers: list[str], texts: list[str], kind: LabelKind, place: Callable[[str], str]
) -> str:
    """Return the refusal of a mixture of integers and texts: the labels of fewer images are taken to be wrong."""
    text_images, integer_images = (sum(sizes[label] for label in labels) for labels in (texts, integers))
    text_is_wrong = kind == "ids" or text_images <= integer_images
    wrong, right = sorted(texts if text_is_wrong else integers), sorted_names(integers if text_is_wrong else texts)
    more = f" (also {_quoted(wrong[1:])})" if wrong[1:] else ""
    is_what = "is not an integer" if text_is_wrong else "is an integer"
    most = f", but {max(text_images, integer_images)} images have labels such as {_quoted(right)}" if right else ""
    why = "; ingest.labels: ids needs integers" if kind == "ids" else most
    return (
        f"{place(wrong[0])}: the label '{wrong[0]}' {is_what}{more}{why}. Correct the label, or set "
        "ingest.labels: names if all labels are names."
    )


def _quoted(labels: list[str]) -> str:
    """Return the first few labels in quotes, for messages."""
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return ", ".join(f"'{label}'" for label in labels[:SHOWN]) + more


def _as_id(label: str, place: Callable[[str], str]) -> int:
    number = int(label.partition(".")[0])
    if abs(number) > LARGEST_ID:
        raise Refused(f"{place(label)}: the label {label} is not a class id; the largest id is {LARGEST_ID}.")
    return number


def _refuse_unlisted(ids: dict[str, int], listed: dict[int, str], place: Callable[[str], str]) -> None:
    """Refuse an id that the label file lacks: a mistyped large label would create many classes without images."""
    unlisted = next((label for label, number in ids.items() if listed and number not in listed), None)
    if unlisted is not None:
        raise Refused(
            f"{place(unlisted)}: the label file (ingest.label_names) has no id {ids[unlisted]}; it has "
            f"{len(listed)} ids from {min(listed)} to {max(listed)}. Correct the label, or add the id and a name."
        )


def _ids_of_names(distinct: list[str], listed: dict[int, str], place: Callable[[str], str]) -> dict[str, int]:
    if not listed:
        return {name: number for number, name in enumerate(sorted_names(distinct))}
    numbers = {name: number for number, name in listed.items()}
    repeated = [name for name, count in Counter(listed.values()).items() if count > 1]
    unknown = next((name for name in distinct if name not in numbers), None)
    if unknown is not None:
        raise Refused(
            f"{place(unknown)}: the label file (ingest.label_names) has no class '{unknown}'."
            f"{did_you_mean(unknown, numbers)}"
        )
    if repeated:
        raise Refused(
            f"the label file (ingest.label_names) gives '{repeated[0]}' several ids; a name that is a label must "
            "have one id."
        )
    return {name: numbers[name] for name in distinct}


def _renumbered(ids: dict[str, int]) -> tuple[str, ...]:
    """Return a note if a class's name is a number other than its id, because a reader could confuse the two."""
    different = {
        name: number
        for name, number in ids.items()
        if INTEGER.fullmatch(name) and int(name.partition(".")[0]) != number
    }
    if not different:
        return ()
    name, number = next(iter(different.items()))
    why = "names are numbered from 0 in sorted order; to use the names as ids, set ingest.labels: ids"
    return (f"the class called '{name}' has the id {number}: {why}",)


def _distinct_names(names: dict[int, str]) -> tuple[dict[int, str], tuple[str, ...]]:
    """Return the map, with " [id]" after each name that several ids share. ImageNet has two classes "crane"."""
    shared = {name for name, count in Counter(names.values()).items() if count > 1}
    notes = tuple(
        f"several classes are called '{name}'; the id was added to each of these names" for name in sorted(shared)
    )
    return {number: f"{name} [{number}]" if name in shared else name for number, name in names.items()}, notes


def _check_names(names: dict[int, str]) -> None:
    """Refuse names that a report cannot show: empty, too long, with control characters, or of two classes."""
    name, count = Counter(names.values()).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise Refused(
            f"{count} classes are called '{name}' after ids were added to repeated names; rename one of them."
        )
    for number, name in names.items():
        controls = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
        if not name.strip() or len(name) > 200 or controls:
            raise Refused(
                f"the name of class {number} ({name[:50]!r}) is empty, longer than 200 letters, or holds control "
                "characters; rename it."
            )
