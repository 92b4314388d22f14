"""`split:` how images are dealt out to train, val and test."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from steps.params.base import Count, Section, Share


class SplitParams(Section):
    """`val` and `test` are shares of each class's images that are dealt out here; the rest is train.

    `max_leaked` allows that many images in val and test whose own group or content is in another split too,
    as ready-made splits may have them; a split that is made here has none. `max_untested_classes` allows that
    many classes that a ready-made test has no image of; those of `small_classes: train_only` are not counted.
    """

    val: Share = 0.15
    test: Share = 0.2
    min_per_class: Annotated[int, Field(ge=1)] = 5
    small_classes: Literal["refuse", "train_only"] = "refuse"
    max_leaked: Count = 0
    max_untested_classes: Count = 0

    @field_validator("test")
    @classmethod
    def _leaves_something_to_train_on(cls, test: float, info: ValidationInfo) -> float:
        val = info.data.get("val", 0.0)
        if val + test >= 1:
            raise ValueError(f"val ({val}) and test ({test}) leave nothing to train on")
        return test
