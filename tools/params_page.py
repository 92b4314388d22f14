"""Write docs/params.md from the classes of steps/params: one table a section, one row a key.

    python -m tools.params_page [--check]

A row shows the key, its default, what the key allows, and its `Field(description=...)`. `--check` writes nothing,
and exits 1 where the page is stale.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from steps.engines.names import BACKENDS
from steps.params import SHARED_KEYS, Params
from steps.params.base import Section, allowed_text
from steps.params.learning import Variant

PAGE = Path(__file__).parent.parent / "docs/params.md"
REQUIRED = "required"
HEAD = """# The params, key by key

<!-- Written by `make params` from the classes in steps/params. Do not edit this page by hand. -->

`params.yaml` holds every value that changes an output. The default holds where `params.yaml` leaves the key out;
the `params.yaml` of this project sets some keys to other values. Shares and drops are fractions: 0.01 is one
point. An unknown key is refused, and the message names the nearest known key.
"""


class Row(NamedTuple):
    """One key as the page shows it; `default` is the value, or REQUIRED."""

    key: str
    default: Any
    allowed: str
    description: str


def main() -> None:
    """Write the page, or with `--check` tell whether it is what would be written."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.params_page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is stale")
    if not parser.parse_args().check:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page())
    elif not PAGE.is_file() or PAGE.read_text() != page():
        sys.exit("params_page: docs/params.md is stale; write it with `make params`")


def page() -> str:
    """Return the whole page."""
    shared = [row for name in SHARED_KEYS for row in rows_of(name, Params.model_fields[name], REQUIRED)]
    parts = [HEAD, "## Shared keys\n", *_table(shared), *_engines()]
    for name, field in Params.model_fields.items():
        if name not in SHARED_KEYS:
            key, section = field.alias or name, _section(field)
            assert section is not None, name
            parts += [
                f"\n## {key}\n",
                inspect.getdoc(section) or "",
                "",
                *_table(section_rows(section, f"{key}.")),
            ]
    return "\n".join(parts) + "\n"


def section_rows(section: type[Section], above: str, instance: Section | None = None) -> Iterator[Row]:
    """Yield a row for each key of the section; `instance` holds the defaults where a section above has some."""
    for name, field in section.model_fields.items():
        default = REQUIRED if field.is_required() else field.get_default(call_default_factory=True)
        yield from rows_of(
            f"{above}{field.alias or name}", field, default if instance is None else getattr(instance, name)
        )


def rows_of(key: str, field: FieldInfo, default: Any) -> Iterator[Row]:
    """Yield the rows of a field: one, or one for each key of the section or variants that the field holds."""
    variants = _variants(field)
    if variants:
        yield from _variant_rows(key, field, variants, default)
    elif section := _section(field):
        yield from section_rows(section, f"{key}.", default)
    else:
        yield Row(key, default, _allowed(field), field.description or "")


def _variant_rows(key: str, field: FieldInfo, variants: list[type[Variant]], default: Variant) -> Iterator[Row]:
    """Yield the row of `name`, with each variant's contract, then a row for each key of each variant."""
    names = [variant.model_fields["name"].default for variant in variants]
    contracts = [f"`{name}`: {_first_line(variant)}" for name, variant in zip(names, variants, strict=True)]
    description = " ".join([field.description or "", *contracts])
    yield Row(f"{key}.name", default.name, ", ".join(f"`{name}`" for name in names), description)
    for name, variant in zip(names, variants, strict=True):
        only = f"Only with `{name}`. " if len(variants) > 1 else ""
        for row in section_rows(variant, f"{key}."):
            if row.key != f"{key}.name":
                yield row._replace(description=only + row.description)


def _section(field: FieldInfo) -> type[Section] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _variants(field: FieldInfo) -> list[type[Variant]]:
    kinds = (field.annotation, *get_args(field.annotation))
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Variant)]


def _first_line(section: type[Section]) -> str:
    return (inspect.getdoc(section) or "").partition("\n")[0]


# --- what a key allows


def _allowed(field: FieldInfo) -> str:
    """Return what the field says in words, else what its type says; `null` too where the type has it."""
    text = allowed_text(field)
    if text is None:
        return _of_kind(field.annotation, field.metadata)
    return f"{text}, `null`" if NoneType in get_args(field.annotation) else text


def _of_kind(kind: Any, bounds: list[Any]) -> str:
    """Return the words for a type with these bounds."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        first, *more = inner
        return _of_kind(
            first, [bound for each in more for bound in (each.metadata if _is_field(each) else [each])]
        )
    if origin in (Union, UnionType):
        return ", ".join(_of_kind(each, bounds) for each in inner)
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in inner)
    if origin is tuple:
        return f"{len(inner)} values, each a {_of_kind(inner[0], [])}"
    if kind is NoneType:
        return "`null`"
    words = {int: "integer", float: "number", str: "text"}[kind]
    return f"{words} {_range(bounds)}".rstrip()


def _is_field(metadata: Any) -> bool:
    return isinstance(metadata, FieldInfo)


def _range(bounds: list[Any]) -> str:
    """Return the words for Ge, Gt, Le and Lt."""
    words = []
    for bound in bounds:
        match bound:
            case Ge(ge=number):
                words.append(f"from {number:g}")
            case Gt(gt=number):
                words.append(f"above {number:g}")
            case Le(le=number):
                words.append(f"at most {number:g}")
            case Lt(lt=number):
                words.append(f"below {number}")
    text = ", ".join(words)
    return text.replace(", at most", " to") if text.startswith("from") else text


# --- Markdown


def _engines() -> list[str]:
    """Return the table of the engines that can be named."""
    rows = [
        f"| `{name}` | {', '.join(f'`{precision}`' for precision in backend.precisions)} |"
        for name, backend in BACKENDS.items()
        if backend.precisions
    ]
    return ["\n| backend | precisions |", "|---|---|", *rows]


def _table(rows: Iterator[Row] | list[Row]) -> list[str]:
    lines = [f"| `{row.key}` | {_value(row.default)} | {row.allowed} | {row.description} |" for row in rows]
    return ["| key | default | allowed | what it does |", "|---|---|---|---|", *lines]


def _value(default: Any) -> str:
    """Return the default as `params.yaml` would hold it."""
    if default == REQUIRED:
        return REQUIRED
    text = yaml.safe_dump(json.loads(json.dumps(default)), default_flow_style=True, width=1000)
    return f"`{text.removesuffix(chr(10)).removesuffix('...').strip()}`"


if __name__ == "__main__":
    main()
