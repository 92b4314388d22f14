"""The params that the tests begin with, whatever a user of the project has written into its params.yaml."""

from pathlib import Path
from typing import Any

import yaml

REFERENCE = Path(__file__).parent / "reference/params.yaml"


def reference_params() -> dict[str, Any]:
    """Return these params, to be changed and written where a step reads them."""
    content: dict[str, Any] = yaml.safe_load(REFERENCE.read_text())
    return content
