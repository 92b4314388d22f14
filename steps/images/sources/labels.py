"""From labels as written down to class ids: one sorted map for all splits, never one map a split."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from steps.errors import BadInput, Refused, did_you_mean
from steps.images.sources.listing import LabelKind, Source
from steps.images.sources.paths import is_inside

INTEGER = re.compile(r"-?\d{1,18}(\.0+)?")  # "3.0" is what pandas makes of an integer column with a gap
SEVERAL = re.compile(r"-?\d+(\s*[,;|]\s*-?\d+)+")
LARGEST_ID = 10_000_000
SHOWN = 3
NUMBERED_NAME = re.compile(r"(-?\d+)[\s,;:]+(.+)")


def number_classes(
    sizes: Mapping[str, int],
    kind: LabelKind,
    given: dict[int, str],
    place: Callable[[str], str] = "class '{}'".format,
) -> tuple[dict[str, int], dict[int, str], tuple[str, ...]]:
    """Return {label: id} of the labels, {id: name} of all ids, and notes for people; `sizes` counts their images.

    Integer labels are ids, as found: validate judges their range. Other labels are names: they get the ids of
    `given` (the label file), or 0 .. K-1 in sorted order. Refuses a mixture, and an id or a name that `given`
    lacks; `place` says where a label stands, for people.
    """
    distinct = sorted(sizes)
    if _are_ids(sizes, kind, place):
        ids = {label: _as_id(label, place) for label in distinct}
        _refuse_unlisted(ids, given, place)
        names = {number: str(number) for number in ids.values()} | given
    else:
        ids = _ids_of_names(distinct, given, place)
        names = {number: name for name, number in ids.items()} | given
    names, notes = _distinct_names(names)
    _check_names(names)
    return ids, dict(sorted(names.items())), notes + _renumbered(ids)


def sorted_names(names: Iterable[str]) -> list[str]:
    """Return class names in their one order: by value where all are integers, else by code point."""
    names = list(names)
    if all(INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)


def given_names(source: Source) -> dict[int, str]:
    """Return the names of `ingest.label_names`, none where nobody gave any; it lies in the source, as lists do."""
    if source.label_names is None:
        return {}
    if not source.path.is_dir():
        raise BadInput(
            f"ingest.label_names: the source {source.path} is one file, and it alone is watched; point "
            f"ingest.source at the folder that holds {source.path.name} and {source.label_names}."
        )
    if not is_inside(source.path, source.path / source.label_names):
        raise BadInput(
            f"ingest.label_names: {source.label_names} lies outside {source.path}, which alone is watched; "
            "move it there."
        )
    return read_label_names(source.path / source.label_names)


def read_label_names(path: Path) -> dict[int, str]:
    """Return {id: name} from lines `id name` (a name may hold spaces), or from one name a line, from 0."""
    lines = _lines(path)
    matches = [NUMBERED_NAME.fullmatch(line) for _, line in lines]
    if not any(matches):
        return {number: line for number, (_, line) in enumerate(lines)}
    names: dict[int, str] = {}
    for (place, line), match in zip(lines, matches, strict=True):
        if match is None:
            raise Refused(f"{path} line {place}: '{line}' is not `id name`, as the other lines are.")
        number = int(match[1])
        if number in names:
            raise Refused(f"{path} line {place}: id {number} was already '{names[number]}'; an id has one name.")
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
    """Tell ids from names, or refuse where that would be a guess."""
    if kind == "names":
        return False
    several = next((label for label in sorted(sizes) if SEVERAL.fullmatch(label)), None)
    if several is not None:
        raise Refused(
            f"{place(several)}: the label '{several}' names several classes; an image has one. If that is a name: "
            "ingest.labels: names."
        )
    whole = [label for label in sizes if INTEGER.fullmatch(label)]
    odd = [label for label in sizes if not INTEGER.fullmatch(label)]
    if odd and (kind == "ids" or whole):
        raise Refused(_mixture(sizes, whole, odd, kind, place))
    return bool(whole)


def _mixture(
    sizes: Mapping[str, int], whole: list[str], odd: list[str], kind: LabelKind, place: Callable[[str], str]
) -> str:
    """Return the sentence on labels of which some are integers: those of fewer images are taken to be wrong."""
    of_odd, of_whole = (sum(sizes[label] for label in labels) for labels in (odd, whole))
    odd_is_wrong = kind == "ids" or of_odd <= of_whole
    wrong, right = sorted(odd if odd_is_wrong else whole), sorted_names(whole if odd_is_wrong else odd)
    others = f", as {_quoted(wrong[1:])}" if wrong[1:] else ""
    is_what = "is no integer" if odd_is_wrong else "is an integer"
    like = f", but {max(of_odd, of_whole)} images have labels such as {_quoted(right)}" if right else ""
    why = "; ingest.labels: ids asks for integers" if kind == "ids" else like
    return (
        f"{place(wrong[0])}: the label '{wrong[0]}' {is_what}{others}{why}. Correct it, or set ingest.labels: "
        "names if all labels are names."
    )


def _quoted(labels: list[str]) -> str:
    """Return the first few labels for people."""
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return ", ".join(f"'{label}'" for label in labels[:SHOWN]) + more


def _as_id(label: str, place: Callable[[str], str]) -> int:
    number = int(label.partition(".")[0])
    if abs(number) > LARGEST_ID:
        raise Refused(f"{place(label)}: the label {label} is no class id: at most {LARGEST_ID} are counted.")
    return number


def _refuse_unlisted(ids: dict[str, int], given: dict[int, str], place: Callable[[str], str]) -> None:
    """Refuse an id that the label file lacks: one mistyped label would make room for classes without images."""
    unlisted = next((label for label, number in ids.items() if given and number not in given), None)
    if unlisted is not None:
        raise Refused(
            f"{place(unlisted)}: the label file (ingest.label_names) has no id {ids[unlisted]}; it has "
            f"{len(given)} ids from {min(given)} to {max(given)}. Correct the label, or add the id and its name."
        )


def _ids_of_names(distinct: list[str], given: dict[int, str], place: Callable[[str], str]) -> dict[str, int]:
    if not given:
        return {name: number for number, name in enumerate(sorted_names(distinct))}
    numbers = {name: number for number, name in given.items()}
    repeated = [name for name, count in Counter(given.values()).items() if count > 1]
    unknown = next((name for name in distinct if name not in numbers), None)
    if unknown is not None:
        raise Refused(
            f"{place(unknown)}: the label file (ingest.label_names) has no class '{unknown}'."
            f"{did_you_mean(unknown, numbers)}"
        )
    if repeated:
        raise Refused(f"the label file gives '{repeated[0]}' several ids; a label by name needs one.")
    return {name: numbers[name] for name in distinct}


def _renumbered(ids: dict[str, int]) -> tuple[str, ...]:
    """Return a note where names look like ids but are others: people take a folder's number for its id."""
    other = {
        name: number
        for name, number in ids.items()
        if INTEGER.fullmatch(name) and int(name.partition(".")[0]) != number
    }
    if not other:
        return ()
    name, number = next(iter(other.items()))
    why = "names are numbered in order from 0; ingest.labels: ids takes them as ids"
    return (f"the class called '{name}' has the id {number}: {why}",)


def _distinct_names(names: dict[int, str]) -> tuple[dict[int, str], tuple[str, ...]]:
    """Return the map with " [id]" behind each name that several ids share: ImageNet has two cranes."""
    shared = {name for name, count in Counter(names.values()).items() if count > 1}
    notes = tuple(f"several class ids are called '{name}'; each got its id behind it" for name in sorted(shared))
    return {number: f"{name} [{number}]" if name in shared else name for number, name in names.items()}, notes


def _check_names(names: dict[int, str]) -> None:
    """Refuse names that no report can show: empty, overlong, with control characters, or of two classes."""
    name, count = Counter(names.values()).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise Refused(f"{count} classes are called '{name}', once their ids are behind their names; rename one.")
    for number, name in names.items():
        controls = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name)
        if not name.strip() or len(name) > 200 or controls:
            raise Refused(
                f"the name of class {number} ({name[:50]!r}) is empty, longer than 200 letters, or holds control "
                "characters; rename it."
            )
