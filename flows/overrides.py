"""A run's own values, checked and then written into params.yaml, where every other reader finds them."""

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
    """Set the params and let the caller check what follows from them: if that raises, they are as they were."""
    before = path.read_bytes() if path.is_file() else b""
    changes = set_params(path, overrides)
    try:
        yield changes
    except BaseException:
        if changes:
            write_whole(path, before)
        raise


def set_params(path: Path, overrides: dict[str, Any]) -> Changes:
    """Write `overrides`, nested as in params.yaml, into it; return what changed.

    The file is checked whole, overridden or not, before anything is written: raises BadInput with every fault.
    Comments, order and the text of values that stay are kept.
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
    """Put each override in its place and return those that differed."""
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
    """Return the value such that a list that stood on one line, [a, b], stays on one line."""
    if not (isinstance(value, list) and isinstance(old, CommentedSeq) and old.fa.flow_style()):
        return value
    new = CommentedSeq(value)
    new.fa.set_flow_style()
    return new


class _Representer(RoundTripRepresenter):
    """Writes null as the word: the empty value, which is the default, reads as a slip."""


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)


def _round_trip() -> YAML:
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 1000  # a long line stays one
    return yaml
