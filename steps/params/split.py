"""`split:` how images are dealt out to train, val and test."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from steps.params.base import Count, Section, Share


class SplitParams(Section):
    """How the images of each class are dealt out to train, val and test."""

    val: Share = Field(
        0.15,
        description="The share of the images of each class that goes to val. A ready-made val is used as it is.",
    )
    test: Share = Field(
        0.2,
        description="The share of the images of each class that goes to test. A ready-made test is used as it "
        "is. The rest is train: `split.val` and `split.test` together must be below 1.",
    )
    min_per_class: Annotated[int, Field(ge=1)] = Field(
        5, description="The fewest images of a class in each split that is dealt out."
    )
    small_classes: Literal["refuse", "train_only"] = Field(
        "refuse",
        description="What happens to a class that is too small for `split.min_per_class`: `split` refuses, or "
        "all images of the class go to train.",
    )
    max_leaked: Count = Field(
        0,
        description="How many images of a ready-made val or test may have a copy, or an image of the same group, "
        "in another split. A split that is dealt out here has none.",
    )
    max_untested_classes: Count = Field(
        0,
        description="How many classes may have no image in a ready-made test. Nothing is shown for such classes. "
        "Classes that `split.small_classes: train_only` keeps in train are not counted.",
    )

    @field_validator("test")
    @classmethod
    def _leaves_something_to_train_on(cls, test: float, info: ValidationInfo) -> float:
        val = info.data.get("val", 0.0)
        if val + test >= 1:
            raise ValueError(f"val ({val}) and test ({test}) leave nothing to train on")
        return test
