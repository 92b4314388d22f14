"""`fuse:` how far the plain network's outputs may be from the multi-branch network's."""

from steps.params.base import Positive, Section


class FuseParams(Section):
    """Bounds on the largest absolute difference over the largest absolute output."""

    max_error_fp32: Positive = 1e-5
    max_error_fp64: Positive = 1e-12
    max_error_fp16: Positive | None = None  # null: what fp16 makes of the plain network is not looked at here
    max_error_bf16: Positive | None = None
