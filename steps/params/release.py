"""`release:` the name of the release."""

from typing import Annotated

from pydantic import Field

from steps.params.base import Section


class ReleaseParams(Section):
    """The name of the release."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")] = Field(
        "classifier",
        description="The name in the card of the release.",
        json_schema_extra={"allowed": "small letters, digits, `-` and `_`; at most 63 characters"},
    )
