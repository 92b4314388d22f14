"""`build:` what an engine is built for."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steps.params.base import Fraction, Section


class BatchProfile(Section):
    """The batch sizes that a TensorRT engine serves: at least, best and at most."""

    min: Annotated[int, Field(ge=1)] = 1
    opt: Annotated[int, Field(ge=1)] = 8
    max: Annotated[int, Field(ge=1)] = 64

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min ({self.min}) <= opt ({self.opt}) <= max ({self.max}) must hold")
        return self


class Int8Params(Section):
    """When an int8 engine is refused, and whether layers stay in float32 so that it need not be.

    `min_agreement` is the share of `held_out_images`, training images that it was not calibrated on, to which int8
    gives float32's class. `fallback: sensitivity` leaves as few layers in float32 as reach it, the worst first.
    """

    fallback: Literal["none", "sensitivity"] = "none"
    min_agreement: Fraction = 0.95  # below it no network keeps its accuracy; above it the gate decides
    held_out_images: Annotated[int, Field(ge=1)] = 512


class BuildParams(Section):
    """`compute_capabilities` are those that a TensorRT for RTX engine is built for, ahead of time.

    `preprocess: graph` puts resize and crop into the engine, which then takes images of up to `max_side` pixels a
    side, and is refused where a test image has more; `host` leaves them to whoever calls it; `auto` is `graph` for
    TensorRT and `host` for the others. Of those, AOTInductor's engines, on a GPU too, take images at the network's
    size only: `graph` refuses them.

    `threads` stands in the card of each engine of the CPU, and whoever runs it takes it from there.
    """

    threads: Annotated[int, Field(ge=1)] | None = None
    batch: BatchProfile = BatchProfile()
    preprocess: Literal["auto", "graph", "host"] = "auto"
    max_side: Annotated[int, Field(ge=1)] = 2048
    calibration_images: Annotated[int, Field(ge=1)] = 256
    int8: Int8Params = Int8Params()
    compute_capabilities: tuple[Annotated[str, Field(pattern=r"^\d+\.\d$")], ...] = ("8.6", "8.9", "12.0")
