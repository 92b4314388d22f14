"""Read a YAML file that a person wrote, with the values that DVC reads from the same text.

DVC reads YAML 1.2 with ruamel.yaml, which the images of the steps do not have. ruamel.yaml and PyYAML both parse
with libyaml. The values of words come from RULES: those of ruamel.yaml for 1.2, where PyYAML has those of 1.1.
"""

import datetime
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import yaml

from steps.errors import BadInput

MAX_BYTES = 4 * 2**20  # the config of a network with 21,000 classes has 2 MB
MAX_VALUES = 200_000  # that config has 87,000
MAX_DEPTH = 64
MAX_ALIASED = 1_000_000  # characters and values that aliases repeat; ten lines of aliases can make 10^9
MAX_DIGITS = 1_000
MAX_KEY = 2**60  # Python gives larger numbers equal hashes, so a mapping of such keys is slow
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
TAGS = "tag:yaml.org,2002:"


def read_yaml(path: Path) -> Any:
    """Return the content of the file, or None for an empty file; raise BadInput with the file and the line.

    Refused are a file that is too large, too deep or has too many aliases, a key that is there twice, and every
    tag (`!!int`). Raises OSError for a file that cannot be opened.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        if len(content) > MAX_BYTES:
            lines = content.count(b"\n") + 1
            raise _Refusal(f"line {lines}: the file has more than {MAX_BYTES // 2**20} MiB")
        return _Document(content.decode("utf-8")).value()
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise BadInput(f"{path} is no {kind}: line {line}: the text is not UTF-8.") from fault
    except yaml.reader.ReaderError as fault:
        line = content.count(b"\n", 0, fault.position) + 1
        raise BadInput(f"{path} is no {kind}: line {line}: {fault.reason}.") from fault
    except yaml.MarkedYAMLError as fault:
        line = fault.problem_mark.line if fault.problem_mark else 0
        line = min(line, content.rstrip(b"\n").count(b"\n")) + 1  # libyaml names the line behind the last
        raise BadInput(f"{path} is no {kind}: line {line}: {fault.problem or fault.context}.") from fault
    except _Refusal as fault:
        raise BadInput(f"{path} is refused: {fault}.") from fault


class _Refusal(Exception):
    """Valid YAML that is not read: line and reason."""


class _Node(NamedTuple):
    """A value, and its size and height when all aliases are written out."""

    value: Any
    size: int
    height: int = 0


class _Document:
    """The values of one document, from the events of the parser. Recursion ends at MAX_DEPTH."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=LOADER))
        self._anchors: dict[str, _Node | None] = {}  # None: the anchor of a value that is not complete
        self._values = 0
        self._aliased = 0
        if directive := re.search(r"^%TAG", text, re.M):  # libyaml compares each %TAG with all others
            line = text.count("\n", 0, directive.start()) + 1
            raise _Refusal(f"line {line}: %TAG is not allowed; remove the line")

    def value(self) -> Any:
        """Return the value of the only document, or None for a text without a document."""
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        node = self._node(next(self._events), 0)
        next(self._events)
        after = next(self._events)
        if not isinstance(after, yaml.StreamEndEvent):
            _fail(after, "a second document begins here; a file has one document")
        return node.value

    def _node(self, event: Any, depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, depth)
        _check_depth(event, depth)
        if event.tag is not None:
            _refuse(event, f"the tag {_shown(event.tag.replace(TAGS, '!!'))} is not allowed; remove the tag")
        self._values += 1
        if self._values > MAX_VALUES:
            _refuse(event, f"the file has more than {MAX_VALUES:,} keys and values")
        if event.anchor is not None:
            if event.anchor in self._anchors:
                _fail(event, f"the anchor '{_shown(event.anchor)}' is there already; rename one of the two")
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(_scalar(event), 1 + len(event.value))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(depth)
        else:
            node = self._mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, depth: int) -> _Node:
        if event.anchor not in self._anchors:
            _fail(event, f"there is no anchor '{_shown(event.anchor)}' above this alias")
        node = self._anchors[event.anchor]
        if node is None:
            _fail(event, f"the alias '{_shown(event.anchor)}' is inside the value of its anchor")
        _check_depth(event, depth + node.height)
        self._aliased += node.size
        if self._aliased > MAX_ALIASED:
            _refuse(event, f"the aliases up to here stand for more than {MAX_ALIASED:,} characters")
        return node

    def _sequence(self, depth: int) -> _Node:
        nodes = []
        while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
            nodes.append(self._node(inner, depth + 1))
        return _collection([node.value for node in nodes], nodes)

    def _mapping(self, depth: int) -> _Node:
        """Return the mapping. `<<` adds the keys of other mappings below the mapping's own keys."""
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        nodes = []
        while not isinstance(first := next(self._events), yaml.MappingEndEvent):
            key = self._key(first, depth + 1)
            node = self._node(next(self._events), depth + 1)
            nodes += [key, node]
            if key.value in lines:
                name, line = _shown(getattr(first, "value", key.value)), lines[key.value]
                _fail(first, f"the key '{name}' is there already, in line {line}; remove one of the two")
            lines[key.value] = _line(first)
            if _is_plain(first, "<<"):
                merged = _merged(first, node.value)
            else:
                own[key.value] = node.value
        return _collection(merged | own, nodes)

    def _key(self, event: Any, depth: int) -> _Node:
        if _is_plain(event, "<<") or _is_plain(event, "="):
            return _Node(event.value, 2)
        node = self._node(event, depth)
        if isinstance(node.value, list | dict):
            _refuse(event, "a key must be one word or number, not a list or a section")
        if isinstance(node.value, int) and abs(node.value) >= MAX_KEY:
            _refuse(event, f"the number {_shown(node.value)} is too large for a key; put the number into quotes")
        return node


def _collection(value: Any, nodes: list[_Node]) -> _Node:
    return _Node(value, 1 + sum(node.size for node in nodes), 1 + max((node.height for node in nodes), default=0))


def _merged(event: Any, value: Any) -> dict[Any, Any]:
    """Return the keys that `<<` adds; of a list of mappings, the first that has a key wins."""
    mappings = value if isinstance(value, list) else [value]
    if not all(isinstance(mapping, dict) for mapping in mappings):
        _fail(event, "`<<` needs a section or a list of sections")
    return {key: item for mapping in reversed(mappings) for key, item in mapping.items()}


def _whole_number(text: str) -> int:
    digits = text.replace("_", "")
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"the number has more than {MAX_DIGITS:,} digits")
    base = {"0b": 2, "0o": 8, "0x": 16}.get(digits.lstrip("+-")[:2], 10)
    return int(digits, base)  # 010 is 10 in YAML 1.2


def _number(text: str) -> float:
    digits = text.replace("_", "").lower()
    return float(digits.replace(".inf", "inf").replace(".nan", "nan"))


def _time(text: str) -> datetime.date:
    node = yaml.ScalarNode(f"{TAGS}timestamp", text)
    time: datetime.date = yaml.constructor.SafeConstructor().construct_yaml_timestamp(node)
    return time


# The rules of ruamel.yaml 0.19 for YAML 1.2, in its order: the tag, the text that has this tag, and its value.
RULES: tuple[tuple[str, re.Pattern[str], Callable[[str], Any]], ...] = (
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    (
        "float",
        re.compile(
            r"""[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)? | [-+]?[0-9][0-9_]*[eE][-+]?[0-9]+
            | [-+]?\.[0-9_]+(?:[eE][-+][0-9]+)? | [-+]?\.(?:inf|Inf|INF) | \.(?:nan|NaN|NAN)""",
            re.X,
        ),
        _number,
    ),
    ("int", re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|[0-9][0-9_]*|0x[0-9a-fA-F_]+)|[-+]_[0-9_]*"), _whole_number),
    ("null", re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (
        "timestamp",
        re.compile(
            r"""\d{4}-\d\d-\d\d | \d{4}-\d\d?-\d\d?(?:[Tt]|[ \t]+)\d\d?:\d\d:\d\d(?:\.\d*)?
            (?:[ \t]*(?:Z|[-+]\d\d?(?::\d\d)?))?""",
            re.X | re.A,
        ),
        _time,
    ),
)


def _scalar(event: Any) -> Any:
    """Return the value of a scalar. A text in quotes is text."""
    if not event.implicit[0]:
        return event.value
    if event.value in ("<<", "="):
        _refuse(event, f"{event.value} is not a value; put it into quotes")
    return next((_value(event, value) for _, rule, value in RULES if rule.fullmatch(event.value)), event.value)


def _value(event: Any, value: Callable[[str], Any]) -> Any:
    try:
        return value(event.value)
    except (ValueError, OverflowError) as fault:  # 2026-13-45, 0x_, a number of 5,000 digits
        raise _Refusal(f"line {_line(event)}: '{_shown(event.value)}' is not valid: {fault}") from fault


def _check_depth(event: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        _refuse(event, f"lists and sections are nested more than {MAX_DEPTH} deep")


def _is_plain(event: Any, text: str) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.tag is None and event.implicit[0] and event.value == text


def _shown(value: object) -> str:
    """Return the value as a part of a sentence: one short line."""
    return " ".join(str(value).split())[:40]


def _line(event: Any) -> int:
    line: int = event.start_mark.line
    return line + 1


def _fail(event: Any, problem: str) -> NoReturn:
    raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _refuse(event: Any, reason: str) -> NoReturn:
    raise _Refusal(f"line {_line(event)}: {reason}")
