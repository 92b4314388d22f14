"""What every section of params.yaml shares: typed, unknown keys forbidden, frozen."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class Section(BaseModel):
    """A section of params.yaml. A key that is not listed in the class is an error, not a default.

    The `description` of each field, and its `allowed` where the type does not say it, are docs/params.md.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def allowed_text(field: FieldInfo) -> str | None:
    """Return what a person may write for the key, where the field says so in words."""
    extra = field.json_schema_extra
    text = extra.get("allowed") if isinstance(extra, dict) else None
    return text if isinstance(text, str) else None
