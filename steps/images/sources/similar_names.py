"""Names that a person reads as one name although their letters differ, such as 'Cat' and 'cat'."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

# Lower-case letters of Cyrillic and Greek that look as a Latin letter does (Unicode TR 39, confusables).
LOOKS_LATIN = str.maketrans(
    {
        "а": "a", "с": "c", "ԁ": "d", "е": "e", "һ": "h", "і": "i", "ј": "j", "ӏ": "l", "о": "o",
        "р": "p", "ԛ": "q", "ѕ": "s", "ԝ": "w", "х": "x", "у": "y", "ο": "o", "ν": "v", "α": "a", "ι": "i",
    }
)  # fmt: skip


def similar_pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of different names that differ only in letters that a person hardly sees, sorted."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        groups[name_key(name)].append(name)
    return [pair for group in groups.values() for pair in pairwise(group)]


def similarity(pair: tuple[str, str]) -> str:
    """Return the two names and their difference, for messages. Escapes show letters that look the same."""
    difference = next(difference for step, difference in _STEPS if step(pair[0]) == step(pair[1]))
    escaped = difference in _NEED_ESCAPES
    first, second = (ascii(name) if escaped else f"'{name}'" for name in pair)
    return f"{first} and {second} differ only in {difference}"


def readable(name: str) -> str:
    """Return the name in composed Unicode, without invisible letters, and with single blanks."""
    return " ".join(_visible(unicodedata.normalize("NFKC", name)).split())


def _visible(name: str) -> str:
    """Return the name without letters that no font shows: format characters and variation selectors."""
    return "".join(letter for letter in name if not _is_invisible(letter))


def _is_invisible(letter: str) -> bool:
    is_selector = "\ufe00" <= letter <= "\ufe0f" or letter in "\u034f\u115f\u1160\u3164"
    return is_selector or unicodedata.category(letter) == "Cf"


def _caseless(name: str) -> str:
    return unicodedata.normalize("NFKC", readable(name).casefold())


def name_key(name: str) -> str:
    """Return one text for all names that a person reads as this name; leading zeros of a number do not count."""
    text = _caseless(name).translate(LOOKS_LATIN)
    return text.lstrip("0") or "0" if text.isdecimal() else text


_STEPS = (
    (lambda name: " ".join(name.split()), "blanks"),
    (lambda name: name.casefold(), "upper and lower case"),
    (_visible, "invisible letters"),
    (lambda name: unicodedata.normalize("NFKC", name), "the Unicode form of their letters"),
    (_caseless, "case, blanks, invisible letters and Unicode form"),
    (lambda name: _caseless(name).translate(LOOKS_LATIN), "letters of two alphabets that look the same"),
    (name_key, "leading zeros"),
)
_NEED_ESCAPES = {difference for _, difference in _STEPS[2:6]}
