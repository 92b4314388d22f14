"""`validate:` how many of each fault are allowed; 0 refuses at the first."""

from typing import Annotated

from pydantic import Field

from steps.params.base import Count, Section


class ValidateParams(Section):
    """Allowances: the count that is still accepted, or null where any count is.

    Images whose label is out of range, that cannot be read, or that have two labels never get into a split:
    allowing some means going on without them. All others that are allowed are used. A small class has
    fewer images than the largest one's over `max_imbalance`; there is none where that is null.
    """

    max_label_out_of_range: Count = 0
    max_unused_ids: Count | None = 0
    max_unreadable: Count = 0
    max_wrong_extension: Count | None = 0
    max_unusual_modes: Count | None = None
    max_animated: Count | None = 0
    max_elongated: Count | None = 0
    max_duplicates: Count | None = None
    max_conflicting_duplicates: Count = 0
    min_side: Annotated[int, Field(ge=1)] = 8
    max_too_small: Count = 0
    max_imbalance: Annotated[float, Field(ge=1)] | None = None
    max_small_classes: Count = 0
