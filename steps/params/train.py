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
    """Which multi-branch block each convolution trains as."""

    block: Literal["none", "repvgg", "qarepvgg", "acb", "dbb", "mobileone", "mobileone_k1"] = Field(
        "repvgg",
        description="The block that each convolution trains as. Fuse folds the branches to one kernel. "
        "`mobileone` has four copies of the kernel, as MobileOne-S0; `mobileone_k1` has one, as S1 to S4. `none` "
        "trains the plain network.",
    )
    where: str = Field(
        "all",
        description="Which convolutions get branches.",
        json_schema_extra={
            "allowed": "`all`, a kernel size such as `3x3`, or a pattern of module names such as `layer1.*`"
        },
    )
    init: Literal["auto", "exact", "standard"] = Field(
        "auto",
        description="How new branches start. `exact`: at zero, so that the network starts as the same function "
        "as the plain network. `standard`: at full strength, as in the papers. `auto`: `exact` with "
        "`train.weights`, else `standard`.",
    )
    mode: Literal["branch", "online"] = Field(
        "branch",
        description="How the branches are computed in training. `branch`: each branch is a convolution with a "
        "norm, as in the papers. `online`: the kernels of the branches are summed before one convolution, which "
        "costs little more than the plain network. In `online` mode the branches have no norms, so `repvgg`, "
        "`qarepvgg` and `mobileone_k1` are the same block.",
    )

    @model_validator(mode="after")
    def _has_branches(self) -> Self:
        if self.block == "none" and self.mode == "online":
            raise ValueError("mode online folds a block's branches, and block none has none; choose a block")
        return self


class QatParams(Section):
    """Fine-tuning of the folded network for int8, after `train.epochs`."""

    epochs: Count = Field(
        0,
        description="How many epochs the folded network learns with the roundings of int8, after `train.epochs`.",
    )
    lr: Positive = Field(0.001, description="The peak learning rate of this fine-tuning.")


class PreprocessParams(Section):
    """What the network sees: the short side resized to `resize`, the centre cropped to `side`, normalised.

    A key that is null takes the value that belongs to the weights, where that value is known, else 32 pixels,
    bilinear, and the mean and std of ImageNet.
    """

    # Not `size`: the run-cache of DVC is blind to keys of that name.
    side: Annotated[int, Field(ge=8)] | None = Field(
        None,
        description="The side, in pixels, of the square that the network sees. `null`, here and in the four keys "
        "below: the value that belongs to the weights, where it is known, else 32, bilinear, and the mean and "
        "std of ImageNet.",
    )
    resize: Annotated[int, Field(ge=8)] | None = Field(
        None,
        description="The length, in pixels, that the short side is resized to before the centre is cropped; at "
        "least `train.preprocess.side`. Where no value is known, the length is `train.preprocess.side`.",
    )
    interpolation: Interpolation | None = Field(None, description="The filter of the resizing.")
    mean: tuple[Fraction, Fraction, Fraction] | None = Field(
        None, description="The mean that is subtracted from R, G and B (each from 0 to 1)."
    )
    std: tuple[Positive, Positive, Positive] | None = Field(
        None, description="The standard deviation that R, G and B are divided by after the mean is subtracted."
    )
    of_weights: Literal["adopt", "override"] = Field(
        "adopt",
        description="What happens where a key above has another value than the weights. `adopt`: train refuses. "
        "`override`: the value in `params.yaml` holds.",
    )

    @field_validator("resize")
    @classmethod
    def _fills_the_crop(cls, resize: int | None, info: ValidationInfo) -> int | None:
        side = info.data.get("side") or 0
        if resize is not None and resize < side:
            raise ValueError(f"should be at least side ({side}): black would fill the rest of the crop")
        return resize


class TrainParams(Section):
    """The network, its blocks, and how it learns.

    The optimizer, schedule, sampler and loss are chosen by `name`, and each has its own keys. A name alone stands
    for the defaults of that name: `loss: focal`. A number alone stands for the one key of an augmentation:
    `shift: 2`.
    """

    arch: str = Field(
        min_length=1,
        description="The plain network.",
        json_schema_extra={
            "allowed": "name of one of our networks, of timm or of torchvision; `networks.module:callable` for a "
            "network of your own; `package.module:callable` for a package of requirements.lock"
        },
    )
    expand: ExpandParams = ExpandParams()
    preprocess: PreprocessParams = PreprocessParams()
    weights: str | None = Field(
        None,
        description="The weights that training starts from: safetensors, torch (loaded weights-only), the "
        "`.pdparams` of PaddlePaddle, or its folder with one file a variable. `null`: fresh weights.",
        json_schema_extra={"allowed": "file or folder under `data/weights`"},
    )
    min_weights_coverage: Fraction = Field(
        0.95,
        description="The smallest share of the tensors of the network that the file must fill, and of the "
        "tensors of the file that the network must have a place for. The second share matters because the "
        "weights of a larger network may fill this network completely. A last layer that starts fresh does not "
        "count, nor do auxiliary heads in the file (`aux1.`, `aux2.`, `AuxLogits.`).",
    )
    bottleneck: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="The width of a layer before the last layer, for very many classes: the last layer would be "
        "most of the network. `null`: no such layer.",
    )
    epochs: Count = Field(
        description="How many epochs the network trains. With 0 and `train.weights`, the finished model goes "
        "through the line as it is."
    )
    qat: QatParams = QatParams()
    batch_size: Annotated[int, Field(ge=2)] = Field(64, description="The images in each step of training.")
    lr: Positive = Field(description="The peak learning rate.")
    optimizer: OptimizerParams = Field(SgdParams(), description="The optimizer.")
    schedule: ScheduleParams = Field(CosineParams(), description="The schedule of the learning rate.")
    sampler: SamplerParams = Field(ShuffleParams(), description="The order in which training images are drawn.")
    loss: LossParams = Field(CrossEntropyParams(), description="The loss.")
    augment: AugmentParams = AugmentParams()
    best_by: Literal["top1", "macro_recall"] = Field(
        "top1", description="The figure on val that chooses the epoch whose network is kept."
    )
    probes: Annotated[int, Field(ge=1, le=256)] = Field(
        16,
        description="How many val images are stored with the model. Fuse and export prove on these images that "
        "the outputs did not change.",
    )

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
