"""`validate:` how many of each fault are allowed."""

from typing import Annotated

from pydantic import Field

from steps.params.base import Count, Section


class ValidateParams(Section):
    """How many of each fault are allowed. `0` refuses the first fault; `null` allows any number.

    Images with a label out of range, images that cannot be read, and images with two labels never enter a split.
    All other images that are allowed are used.
    """

    max_label_out_of_range: Count = Field(
        0,
        description="How many images may have a label outside 0 .. `class_num` - 1. Such images are left out.",
    )
    max_unused_ids: Count | None = Field(0, description="How many class ids may have no readable image.")
    max_unreadable: Count = Field(0, description="How many files may fail to decode. Such files are left out.")
    max_wrong_extension: Count | None = Field(
        0, description="How many images may have another format than the extension of the file name says."
    )
    max_unusual_modes: Count | None = Field(
        None, description="How many images may be neither plain grey nor RGB. Such images are converted."
    )
    max_animated: Count | None = Field(
        0, description="How many images may have several frames. Only the first frame is used."
    )
    max_elongated: Count | None = Field(
        0,
        description="How many images may be longer than 50 times their short side. Only the middle of such an "
        "image is used.",
    )
    max_duplicates: Count | None = Field(
        None, description="How many images may have the same bytes as another image of their class."
    )
    max_conflicting_duplicates: Count = Field(
        0,
        description="How many images may have the same bytes as an image of another class. Such images are left "
        "out.",
    )
    min_side: Annotated[int, Field(ge=1)] = Field(
        8, description="The shortest side, in pixels, that is not too small."
    )
    max_too_small: Count = Field(0, description="How many images may have a side below `validate.min_side`.")
    max_imbalance: Annotated[float, Field(ge=1)] | None = Field(
        None,
        description="A class is small where it has fewer images than the largest class, divided by this number. "
        "`null`: no class is small.",
    )
    max_small_classes: Count = Field(0, description="How many classes may be small.")
