"""The params that the tests start with, independent of the user's params.yaml."""

from pathlib import Path
from typing import Any

import yaml

REFERENCE = Path(__file__).parent / "reference/params.yaml"


def reference_params() -> dict[str, Any]:
    """Return these params, for a test to change and write to a place where a step reads them."""
    content: dict[str, Any] = yaml.safe_load(REFERENCE.read_text())
    return content
