"""`export:` the ONNX graph and how far its outputs may be from the fused network's."""

from typing import Annotated, Literal

from pydantic import Field

from steps.params.base import Positive, Section


class ExportParams(Section):
    """`max_error` bounds the largest absolute difference over the largest absolute output, in float32."""

    opset: Annotated[int, Field(ge=18, le=23)] = 20
    simplify: Literal["onnxsim", "none"] = "onnxsim"
    max_error: Positive = 1e-4
