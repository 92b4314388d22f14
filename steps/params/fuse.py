"""`fuse:` what becomes of the branches, and how far the outputs may be from the trained network's."""

from typing import Literal

from steps.params.base import Positive, Section


class FuseParams(Section):
    """Bounds on the largest absolute difference over the largest absolute output.

    `branches: keep` leaves them in place, slower and closer to float32 in int8, with the norms that can go gone.
    """

    branches: Literal["fold", "keep"] = "fold"
    max_error_fp32: Positive = 1e-5
    max_error_fp64: Positive = 1e-12
    max_error_fp16: Positive | None = None  # null: what fp16 makes of the plain network is not looked at here
    max_error_bf16: Positive | None = None
