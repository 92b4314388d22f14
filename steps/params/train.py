"""`train:` the network, its blocks, and how it learns."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from steps.params.base import Count, Fraction, Positive, Section
from steps.params.learning import (
    AugmentParams,
    CosineParams,
    CrossEntropyParams,
    LossParams,
    OptimizerParams,
    SamplerParams,
    ScheduleParams,
    SgdParams,
    ShuffleParams,
)
from steps.reports.card import Interpolation


class ExpandParams(Section):
    """Which multi-branch block each convolution trains as; `none` trains the plain network.

    With `init: exact` the expanded network starts as the same function as the plain network. With `standard` every
    branch starts at full strength, as in the papers. `auto` is exact with `train.weights`, else standard. `mode:
    branch` trains every branch as a convolution with a norm; `online` sums the kernels of the branches before one
    convolution in each step.
    """

    block: Literal["none", "repvgg", "qarepvgg", "acb", "dbb", "mobileone", "mobileone_k1"] = "repvgg"
    where: str = "all"  # or a kernel size such as "3x3", or a pattern of module names such as "layer1.*"
    init: Literal["auto", "exact", "standard"] = "auto"
    mode: Literal["branch", "online"] = "branch"

    @model_validator(mode="after")
    def _has_branches(self) -> Self:
        if self.block == "none" and self.mode == "online":
            raise ValueError("mode online folds a block's branches, and block none has none; choose a block")
        return self


class QatParams(Section):
    """`epochs` of fine-tuning after `train.epochs`, with the roundings of int8; `lr` is the peak learning rate."""

    epochs: Count = 0
    lr: Positive = 0.001


class PreprocessParams(Section):
    """What the network sees: the short side resized to `resize`, the centre cropped to `side`, normalised.

    A key that is null takes the value that belongs to the weights, where it is known, else 32 pixels, bilinear,
    and the mean and std of ImageNet. Without a value, `resize` equals `side`. A key with another value than that
    of the weights is refused, unless `of_weights` is `override`.
    """

    side: Annotated[int, Field(ge=8)] | None = None  # not `size`: DVC's run-cache is blind to keys of that name
    resize: Annotated[int, Field(ge=8)] | None = None
    interpolation: Interpolation | None = None
    mean: tuple[Fraction, Fraction, Fraction] | None = None
    std: tuple[Positive, Positive, Positive] | None = None
    of_weights: Literal["adopt", "override"] = "adopt"

    @field_validator("resize")
    @classmethod
    def _fills_the_crop(cls, resize: int | None, info: ValidationInfo) -> int | None:
        side = info.data.get("side") or 0
        if resize is not None and resize < side:
            raise ValueError(f"should be at least side ({side}): black would fill the rest of the crop")
        return resize


class TrainParams(Section):
    """`weights` is a safetensors, torch or .pdparams file, or a Paddle folder with one file a variable.

    With `epochs: 0` they go through the line as they are. `bottleneck` is the width of a layer before the last
    one, for heads of very many classes.
    """

    arch: str = Field(min_length=1)
    expand: ExpandParams = ExpandParams()
    preprocess: PreprocessParams = PreprocessParams()
    weights: str | None = None
    min_weights_coverage: Fraction = 0.95
    bottleneck: Annotated[int, Field(ge=1)] | None = None
    epochs: Count
    qat: QatParams = QatParams()
    batch_size: Annotated[int, Field(ge=2)] = 64
    lr: Positive
    optimizer: OptimizerParams = SgdParams()
    schedule: ScheduleParams = CosineParams()
    sampler: SamplerParams = ShuffleParams()
    loss: LossParams = CrossEntropyParams()
    augment: AugmentParams = AugmentParams()
    best_by: Literal["top1", "macro_recall"] = "top1"
    probes: Annotated[int, Field(ge=1, le=256)] = 16

    @field_validator("weights")
    @classmethod
    def _are_watched(cls, weights: str | None) -> str | None:
        """Raise where DVC does not watch the file: a changed file would leave the old model in place."""
        parts = PurePosixPath(weights or "data/weights/x").parts
        if parts[:2] != ("data", "weights") or len(parts) < 3 or ".." in parts:
            raise ValueError(f"'{weights}' is not under data/weights, which DVC watches; put it, or a link, there")
        return weights

    @field_validator("schedule")
    @classmethod
    def _reaches_the_learning_rate(cls, schedule: CosineParams, info: ValidationInfo) -> CosineParams:
        epochs = info.data.get("epochs", 0)
        if epochs and schedule.warmup_epochs > epochs:
            raise ValueError(
                f"train.schedule.warmup_epochs: should be at most epochs ({epochs}): the learning rate would "
                "never reach lr"
            )
        return schedule

    @property
    def init(self) -> Literal["exact", "standard"]:
        """How new branches start, with `auto` resolved."""
        if self.expand.init == "auto":
            return "standard" if self.weights is None else "exact"
        return self.expand.init

    @model_validator(mode="after")
    def _has_something_to_show(self) -> Self:
        if self.epochs == 0 and self.weights is None:
            raise ValueError(
                "epochs is 0 and weights is null: there would be no trained network; give one of them"
            )
        if self.epochs == 0 and self.expand.block != "none" and self.init == "standard":
            raise ValueError("epochs is 0: expand.init standard would spoil the weights; use auto or exact")
        return self
