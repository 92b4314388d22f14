"""From written labels to class ids: one sorted map of classes for all splits, never one map per split."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from steps.errors import Refused, did_you_mean
from steps.images.sources.listing import LabelKind, SimilarNames
from steps.images.sources.similar_names import similar_pairs, similarity

INTEGER = re.compile(r"-?\d{1,18}(\.0+)?")  # pandas writes "3.0" if an integer column has a missing value
SEVERAL = re.compile(r"[\[(]?\s*-?\d+(\.\d*)?(\s*[\s,;|]\s*-?\d+(\.\d*)?)+\s*[\])]?")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.I)
NO_VALUE = {"nan", "null", "<na>", "nat", '""', "''"}  # texts that programs write for a missing label
LARGEST_ID = 10_000_000
SHOWN = 3


def number_classes(
    sizes: Mapping[str, int],
    kind: LabelKind,
    listed: dict[int, str],
    place: Callable[[str], str] = "class '{}'".format,
    similar: SimilarNames = "refuse",
) -> tuple[dict[str, int], dict[int, str], tuple[str, ...]]:
    """Return {label: id} of the labels, {id: name} of all ids, and notes for people.

    `sizes` is {label: number of images}, and `listed` is {id: name} from the label file. Integer labels are ids;
    validate checks their range. Other labels are names: a name gets its id in `listed`, or without a label file
    an id from 0 .. K-1 in sorted order. Refuses a mixture of ids and names, a label that the label file lacks,
    and, unless `similar` is "keep", two names that a person reads as one. `place` returns where a label is
    written, for messages.
    """
    distinct = sorted(sizes)
    pairs: list[tuple[str, str]] = []
    if _are_ids(sizes, kind, place):
        ids = {label: _as_id(label, place) for label in distinct}
        _refuse_unlisted(ids, listed, place)
        names = {number: str(number) for number in ids.values()} | listed
        pairs = similar_pairs(listed.values())
    else:
        pairs = similar_pairs(distinct)
        _refuse_similar(pairs, similar, place)
        ids = _ids_of_names(distinct, listed, place)
        names = {number: name for name, number in ids.items()} | listed
    names, notes = _distinct_names(names)
    _check_names(names)
    kept = tuple(f"two classes have similar names: {similarity(pair)}" for pair in pairs)
    return ids, dict(sorted(names.items())), notes + kept + _renumbered(ids) + _merged(ids)


def sorted_names(names: Iterable[str]) -> list[str]:
    """Return class names in a fixed order: by value if all names are integers, otherwise by code point."""
    names = list(names)
    if all(INTEGER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names)


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
    odd = sorted(label for label in texts if NUMBER.fullmatch(label) or label.lower() in NO_VALUE)
    if odd and kind == "auto":
        raise Refused(
            f"{place(odd[0])}: the label '{odd[0]}' is neither a class id (an integer without a sign, from 0) nor "
            "clearly a class name. Correct the label, or set ingest.labels: names if the label is a name."
        )
    return bool(integers)


def _refuse_similar(pairs: list[tuple[str, str]], similar: SimilarNames, place: Callable[[str], str]) -> None:
    if pairs and similar == "refuse":
        first, second = pairs[0]
        more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
        raise Refused(
            f"{place(first)} and {place(second)}: the class names {similarity(pairs[0])}{more}. Write one "
            "name for both, or set ingest.alike_names: keep if the names mean two classes."
        )


def _merged(ids: Mapping[str, int]) -> tuple[str, ...]:
    """Return a note if several texts, such as '1' and '1.0', are read as one class id."""
    texts: dict[int, list[str]] = {}
    for label, number in ids.items():
        texts.setdefault(number, []).append(label)
    merged = [labels for labels in texts.values() if len(labels) > 1]
    if not merged:
        return ()
    return (f"{len(merged)} class id(s) are written in several ways, such as {_quoted(merged[0])}",)


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
