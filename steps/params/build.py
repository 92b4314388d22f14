"""`build:` what an engine is built for."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steps.params.base import Section


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


class BuildParams(Section):
    """`compute_capabilities` are those that a TensorRT for RTX engine is built for, ahead of time.

    `preprocess: graph` puts resize and crop into the engine, which then takes images of up to `max_side` pixels a
    side; `host` leaves them to whoever calls it; `auto` is `graph` on a GPU and `host` on the CPU.

    `threads` and `batch.opt` stand in the card of each engine, and whoever runs it takes them from there.
    """

    threads: Annotated[int, Field(ge=1)] | None = None
    batch: BatchProfile = BatchProfile()
    preprocess: Literal["auto", "graph", "host"] = "auto"
    max_side: Annotated[int, Field(ge=1)] = 2048
    calibration_images: Annotated[int, Field(ge=1)] = 256
    compute_capabilities: tuple[Annotated[str, Field(pattern=r"^\d+\.\d$")], ...] = ("8.6", "8.9", "12.0")
