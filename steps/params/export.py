"""`export:` the ONNX graph, and how far its outputs may be from the outputs of the fused network."""

from typing import Annotated, Literal

from pydantic import Field

from steps.params.base import Positive, Section


class ExportParams(Section):
    """The ONNX graph, and how far its outputs may be from the outputs of the fused network."""

    opset: Annotated[int, Field(ge=18, le=23)] = Field(20, description="The version of the ONNX operators.")
    simplify: Literal["onnxsim", "none"] = Field("onnxsim", description="Whether onnxsim simplifies the graph.")
    max_error: Positive = Field(
        1e-4,
        description="The largest error that the ONNX model may have against the fused network in float32: the "
        "largest absolute difference of an output, divided by the largest absolute output.",
    )
