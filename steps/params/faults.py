"""What pydantic found wrong, as lines for a person: the key as it is written, and what would be right."""

import json
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from steps.errors import did_you_mean
from steps.params.base import Section

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Location = tuple[int | str, ...]
PLAIN_WORDS = {
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "string_type": "should be text",
    "model_type": "should be a section, with keys of its own",
    "tuple_type": "should be a list",
    "dict_type": "should be keys with values",
}


def sentences(faults: ValidationError, whole: type[Section]) -> list[str]:
    """Return one line a key of `whole`; what each alternative of a type says becomes one."""
    by_key: dict[str, list[ErrorDetails]] = {}
    for fault in faults.errors():
        by_key.setdefault(_key(fault["loc"], whole), []).append(fault)
    return [_sentence(key, faults_of_it, whole) for key, faults_of_it in by_key.items()]


def _sentence(key: str, faults: "list[ErrorDetails]", whole: type[Section]) -> str:
    kind, location = faults[0]["type"], faults[0]["loc"]
    if kind == "extra_forbidden":
        return f"{key}: unknown key.{did_you_mean(str(location[-1]), _known_beside(location, whole))}"
    field = _place(location, whole)[1]
    alternatives = len(faults) > 1 and field and field.description
    said = f"should be {alternatives}" if alternatives else ", or ".join(dict.fromkeys(map(_said, faults)))
    if kind not in ("missing", "value_error"):
        said += _given(faults[0]["input"])
    return said if said.startswith(f"{key}.") or not key else f"{key}: {said}"  # some name their key themselves


def _said(fault: "ErrorDetails") -> str:
    return PLAIN_WORDS.get(fault["type"], fault["msg"].removeprefix("Value error, ").removeprefix("Input "))


def _given(value: Any) -> str:
    return "" if isinstance(value, dict | list) else f", not {json.dumps(value)}"


def _key(location: Location, whole: type[Section]) -> str:
    return ".".join(map(str, _place(location, whole)[0]))


def _place(location: Location, whole: type[Section]) -> tuple[Location, FieldInfo | None]:
    """Return the location without what pydantic adds to it, and the field that it leads to.

    That is the name of a union's alternative, and `[key]` where the key of a dict is wrong.
    """
    section: type[Section] | None = whole
    field: FieldInfo | None = None
    for depth, part in enumerate(location):
        if section is None:
            kinds = (field.annotation, *get_args(field.annotation)) if field else ()
            inside = any(get_origin(kind) in (dict, tuple) for kind in kinds)
            return location[: depth + inside], field
        field = _fields(section).get(str(part))
        section = _section_of(field)
    return location, field


def _known_beside(location: Location, whole: type[Section]) -> list[str]:
    """Return the keys that are allowed beside the one that was not known."""
    field = _place(location[:-1], whole)[1]
    section = _section_of(field) if field else whole
    return list(_fields(section)) if section else []


def _fields(section: type[Section]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _section_of(field: FieldInfo | None) -> type[Section] | None:
    """Return the section that the field holds, or may hold."""
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None)
