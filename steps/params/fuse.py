"""`fuse:` what becomes of the branches, and how far the outputs may be from the outputs of the trained network."""

from typing import Literal

from pydantic import Field

from steps.params.base import Positive, Section


class FuseParams(Section):
    """What becomes of the branches, and how far the outputs may be from the outputs of the trained network.

    An error is the largest absolute difference of an output, divided by the largest absolute output.
    """

    branches: Literal["fold", "keep"] = Field(
        "fold",
        description="`fold` folds the branches of each site into one kernel. `keep` leaves the branches in place "
        "and absorbs only the norms that can be absorbed: slower, but closer to float32 in int8.",
    )
    max_error_fp32: Positive = Field(
        1e-5, description="The largest error that the fused network may have against the trained one in float32."
    )
    max_error_fp64: Positive = Field(1e-12, description="The largest error in float64.")
    max_error_fp16: Positive | None = Field(
        None,
        description="The largest error that the plain network may have in float16. `null`: float16 is not "
        "checked.",
    )
    max_error_bf16: Positive | None = Field(
        None,
        description="The largest error that the plain network may have in bfloat16. `null`: bfloat16 is not "
        "checked.",
    )
