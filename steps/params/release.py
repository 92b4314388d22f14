"""`release:` the name under which what passed is shipped."""

from typing import Annotated

from pydantic import Field

from steps.params.base import Section


class ReleaseParams(Section):
    """`name` stands in the release's card and file names."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")] = "classifier"
