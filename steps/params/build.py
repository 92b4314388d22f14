"""`build:` what an engine is built for."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from steps.params.base import Fraction, Section


class BatchProfile(Section):
    """The batch sizes that a TensorRT engine serves."""

    min: Annotated[int, Field(ge=1)] = Field(1, description="The smallest batch that a TensorRT engine serves.")
    opt: Annotated[int, Field(ge=1)] = Field(
        8,
        description="The batch that a TensorRT engine is tuned for.",
        json_schema_extra={"allowed": "integer from `build.batch.min` to `build.batch.max`"},
    )
    max: Annotated[int, Field(ge=1)] = Field(
        64,
        description="The largest batch that a TensorRT engine serves.",
        json_schema_extra={"allowed": "integer from `build.batch.opt`"},
    )

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"min ({self.min}) <= opt ({self.opt}) <= max ({self.max}) must hold")
        return self


class Int8Params(Section):
    """When an int8 engine is refused, and whether some of its layers stay in float32."""

    fallback: Literal["none", "sensitivity"] = Field(
        "none",
        description="Whether an int8 engine may keep layers in float32. `sensitivity` keeps the fewest layers in "
        "float32 with which the engine reaches `build.int8.min_agreement`. The worst layers come first.",
    )
    # Below the default no network keeps its accuracy; above the default the gate decides.
    min_agreement: Fraction = Field(
        0.95,
        description="The share of held-out training images that must get the same class in int8 as in float32. "
        "`build` refuses an int8 engine below this share.",
    )
    held_out_images: Annotated[int, Field(ge=1)] = Field(
        512,
        description="How many training images measure `build.int8.min_agreement`. These images are not used for "
        "calibration.",
    )


class BuildParams(Section):
    """What engines are built for: threads, batches, image sizes, calibration and GPUs."""

    threads: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="The threads that a CPU engine runs on, at most one for each CPU of the machine. The card of "
        "the engine states the number, and every runner follows the card. `null`: the runtime chooses.",
    )
    batch: BatchProfile = BatchProfile()
    preprocess: Literal["auto", "graph", "host"] = Field(
        "auto",
        description="Where images are resized and cropped. `graph`: in the engine, which then takes decoded "
        "images of any size up to `build.max_side`. `host`: in the program that calls the engine. `auto`: "
        "`graph` for TensorRT, `host` for all other backends. AOTInductor engines, on a GPU too, take images at "
        "the network's size only: `graph` refuses these engines.",
    )
    max_side: Annotated[int, Field(ge=1)] = Field(
        2048,
        description="The longest side, in pixels, that an engine with `preprocess: graph` takes. `build` refuses "
        "where a test image is longer, and names the side that would do. On a GPU the engine reserves about 24 "
        "bytes × `build.batch.max` × the square of this number.",
    )
    calibration_images: Annotated[int, Field(ge=1)] = Field(
        256, description="How many training images int8 engines learn the ranges of values from."
    )
    int8: Int8Params = Int8Params()
    compute_capabilities: tuple[Annotated[str, Field(pattern=r"^\d+\.\d$")], ...] = Field(
        ("8.6", "8.9", "12.0"),
        description="The compute capabilities of the GPUs that a TensorRT for RTX engine is built for, ahead of "
        "time.",
        json_schema_extra={"allowed": 'list of texts such as `"8.6"`'},
    )
