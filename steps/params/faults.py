"""The faults that pydantic found, as lines for a person: the key as it is written, and what would be right."""

import json
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from steps.errors import did_you_mean
from steps.params.base import Section, allowed_text

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
    "model_attributes_type": "should be a section, with keys of its own",
    "union_tag_not_found": "should have a `name`",
}
MOVED = {  # keys of version 0.1 and their places of today
    "train.momentum": "train.optimizer.momentum",
    "train.weight_decay": "train.optimizer.weight_decay",
    "train.warmup_epochs": "train.schedule.warmup_epochs",
    "train.sampler_power": "train.sampler.power",
}


def sentences(faults: ValidationError, whole: type[Section]) -> list[str]:
    """Return one line for each key of `whole`. The faults of all alternatives of a type become one line."""
    by_key: dict[str, list[ErrorDetails]] = {}
    for fault in faults.errors():
        by_key.setdefault(_key(fault["loc"], whole), []).append(fault)
    return [_sentence(key, faults_of_key, whole) for key, faults_of_key in by_key.items()]


def _sentence(key: str, faults: "list[ErrorDetails]", whole: type[Section]) -> str:
    kind, location = faults[0]["type"], faults[0]["loc"]
    if kind == "extra_forbidden":
        return f"{key}: {_unknown(key, location, whole)}"
    if kind == "union_tag_invalid":
        return _no_such_variant(key, faults[0], whole)
    field = _found(location, whole)[1]
    allowed = allowed_text(field) if len(faults) > 1 and field else None
    sentence = f"should be {allowed}" if allowed else ", or ".join(dict.fromkeys(map(_plain, faults)))
    if kind not in ("missing", "value_error", "union_tag_not_found"):
        sentence += _but_is(faults[0]["input"])
    names_its_key = sentence.startswith(f"{key}.")
    return sentence if names_its_key or not key else f"{key}: {sentence}"


def _unknown(key: str, location: Location, whole: type[Section]) -> str:
    """Return what the key should be: its new place, the variant that has the key, or the nearest key."""
    if key in MOVED:
        return f"unknown key. It is {MOVED[key]} now."
    name, field = str(location[-1]), _found(location[:-1], whole)[1]
    having = [tag for tag, variant in _variants(field).items() if name in variant.model_fields]
    if having:
        return f"unknown key. It is a key of {' and '.join(having)}, and name is {location[-2]}."
    return f"unknown key.{did_you_mean(name, _known_beside(location, whole))}"


def _no_such_variant(key: str, fault: "ErrorDetails", whole: type[Section]) -> str:
    tags = list(_variants(_found(fault["loc"], whole)[1]))
    name = str(fault["input"].get("name"))
    return f"{key}.name: '{name}' is none of {', '.join(tags)}.{did_you_mean(name, tags)}"


def _plain(fault: "ErrorDetails") -> str:
    return PLAIN_WORDS.get(fault["type"], fault["msg"].removeprefix("Value error, ").removeprefix("Input "))


def _but_is(value: Any) -> str:
    return "" if isinstance(value, dict | list) else f", not {json.dumps(value)}"


def _key(location: Location, whole: type[Section]) -> str:
    return ".".join(map(str, _found(location, whole)[0]))


def _found(location: Location, whole: type[Section]) -> tuple[Location, FieldInfo | None]:
    """Return the location without what pydantic adds to it, and the field that the location leads to.

    Pydantic adds the tag of a variant, the name of a union's alternative, and `[key]` where a dict's key is wrong.
    """
    kept: list[int | str] = []
    field: FieldInfo | None = None
    section: type[Section] | None = whole
    variants: dict[str, type[Section]] = {}
    for part in location:
        if str(part) in variants:
            section, variants = variants[str(part)], {}
            continue
        if section is None:
            kinds = (field.annotation, *get_args(field.annotation)) if field else ()
            inside = any(get_origin(kind) in (dict, tuple) for kind in kinds)
            return (*kept, part) if inside else tuple(kept), field
        kept.append(part)
        field = _fields(section).get(str(part))
        section, variants = _section_of(field), _variants(field)
    return tuple(kept), field


def _known_beside(location: Location, whole: type[Section]) -> list[str]:
    """Return the keys that are allowed where the unknown key is."""
    field = _found(location[:-1], whole)[1]
    variant = _variants(field).get(str(location[-2])) if len(location) > 1 else None
    section = variant or (_section_of(field) if field else whole)
    return list(_fields(section)) if section else []


def _fields(section: type[Section]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _section_of(field: FieldInfo | None) -> type[Section] | None:
    """Return the section that the field may hold, or None."""
    return next(iter(_sections_of(field)), None)


def _variants(field: FieldInfo | None) -> dict[str, type[Section]]:
    """Return the sections that `name` chooses between, by name; none where there is no choice."""
    sections = _sections_of(field)
    return {section.model_fields["name"].default: section for section in sections} if len(sections) > 1 else {}


def _sections_of(field: FieldInfo | None) -> list[type[Section]]:
    kinds = (field.annotation, *get_args(field.annotation)) if field else ()
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)]
