"""From the text of params.yaml to JSON, for the strict checks of the params classes."""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from steps.errors import BadInput
from steps.yaml_text import read_yaml


def params_as_json(path: Path) -> str:
    """Return the file's content as JSON; raise BadInput with the line that is not YAML, or the key with a date.

    JSON has no dates, and a date as text is the name that a person forgot to put into quotes.
    """
    if not path.is_file():
        raise BadInput(f"{path} is not there; run from the project's folder or name it with --params.")
    content = read_yaml(path)
    if found := next(_dates(content), None):
        key, text = found
        raise BadInput(f"{path}: {key}: {text} is a date in YAML; put the text into quotes to keep the text.")
    return json.dumps(content)


def _dates(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key and the text of each date, in values and in keys."""
    if isinstance(content, date):
        yield key, str(content)
    elif isinstance(content, dict):
        for name, value in content.items():
            inner = f"{key}.{name}".removeprefix(".")
            yield from _dates(name, inner) if isinstance(name, date) else _dates(value, inner)
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from _dates(value, f"{key}.{number}".removeprefix("."))
