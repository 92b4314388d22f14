"""The overrides of a run: they are checked and then written into params.yaml, which every other reader uses."""

import io
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.representer import RoundTripRepresenter

from steps.errors import BadInput
from steps.files import write_whole
from steps.params import load_params

Changes = dict[str, str]  # dotted key -> "old -> new"


@contextmanager
def overridden(path: Path, overrides: dict[str, Any]) -> Iterator[Changes]:
    """Set the params for the caller's own checks; restore params.yaml if the caller raises an exception."""
    before = path.read_bytes() if path.is_file() else b""
    changes = set_params(path, overrides)
    try:
        yield changes
    except BaseException:
        if changes:
            write_whole(path, before)
        raise


def set_params(path: Path, overrides: dict[str, Any]) -> Changes:
    """Write `overrides`, nested like params.yaml, into the file `path`; return the changes.

    The whole file is checked before and after the overrides; raises BadInput with every fault and writes nothing.
    The comments, the order and the text of unchanged values stay the same.
    """
    load_params(path)
    if not overrides:
        return {}
    yaml = _round_trip()
    content = yaml.load(path.read_text())
    changed = _merge(content, overrides, prefix="")
    text = io.StringIO()
    yaml.dump(content, text)
    _check(path, text.getvalue())
    if changed:
        write_whole(path, text.getvalue().encode())
    return changed


def _check(path: Path, text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / path.name
        candidate.write_text(text)
        try:
            load_params(candidate)
        except BadInput as fault:
            raise BadInput(str(fault).replace(str(candidate), f"{path} with the run's overrides")) from fault


def _merge(content: Any, overrides: dict[str, Any], prefix: str) -> Changes:
    """Set each override in `content` and return the changes."""
    changed: Changes = {}
    for key, value in overrides.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            changed |= _merge(content[key], value, f"{prefix}{key}.")
        elif key not in content or content[key] != value:
            old = json.dumps(content[key], default=str) if key in content else "its default"
            changed[f"{prefix}{key}"] = f"{old} -> {json.dumps(value)}"
            content[key] = _in_the_style_of(content.get(key), value)
    return changed


def _in_the_style_of(old: Any, value: Any) -> Any:
    """Return the value; if the old value was a list on one line, [a, b], the new list is also on one line."""
    if not (isinstance(value, list) and isinstance(old, CommentedSeq) and old.fa.flow_style()):
        return value
    new = CommentedSeq(value)
    new.fa.set_flow_style()
    return new


class _Representer(RoundTripRepresenter):
    """Writes the word null. The default of the library is an empty value, which looks like a mistake."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _round_trip() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 1000  # do not break long lines
    return yaml
