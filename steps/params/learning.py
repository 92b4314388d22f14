"""`train:` how the network learns: loss, sampler, optimizer, schedule, augmentations, each with its own keys.

Each class belongs to one entry of a table: LOSSES, SAMPLERS, OPTIMIZERS, SCHEDULES (steps/training), AUGMENTATIONS
(steps/images). The keys of the class besides `name` are the arguments of that entry.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from steps.params.base import Count, Fraction, Section


class Variant(Section):
    """One of several variants, chosen by `name`."""

    name: str

    def settings(self) -> dict[str, Any]:
        """Return the keys besides `name`, which are the arguments of the entry in the table."""
        return self.model_dump(exclude={"name"})


def named(default: str) -> BeforeValidator:
    """Accept a name alone for a variant with its defaults, and keys without a name for the variant `default`."""

    def with_name(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        return {"name": default, **value} if isinstance(value, dict) else value

    return BeforeValidator(with_name)


def number_of(key: str) -> Callable[[Any], Any]:
    """Accept a number alone for the only key of a section."""

    def with_key(value: Any) -> Any:
        return {key: value} if isinstance(value, int | float) and not isinstance(value, bool) else value

    return with_key


class CrossEntropyParams(Variant):
    """Cross-entropy; label smoothing after Szegedy et al. 2016."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="The share of the target that is spread over all classes."
    )


class FocalParams(Variant):
    """Focal loss (Lin et al. 2017, equation 4), without label smoothing: p is that of the label alone."""

    name: Literal["focal"] = "focal"
    gamma: Annotated[float, Field(ge=0)] = Field(2.0, description="The focusing exponent.")


class ShuffleParams(Variant):
    """Each image exactly once in an epoch."""

    name: Literal["shuffle"] = "shuffle"


class BalancedParams(Variant):
    """First a class is drawn, then an image of the class (Mahajan et al. 2018)."""

    name: Literal["balanced"] = "balanced"
    power: Fraction = Field(
        0.5,
        description="A class of n images is drawn with a chance in proportion to n to this power: "
        "1 keeps the shares of the data, 0 gives all classes the same share.",
    )


class SgdParams(Variant):
    """SGD with Nesterov momentum."""

    name: Literal["sgd"] = "sgd"
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(0.9, description="The momentum of SGD.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(
        5e-4, description="The weight decay of SGD. Norms and biases are not decayed."
    )


class CosineParams(Variant):
    """A linear warm-up to `train.lr`, then half a cosine down to 0."""

    name: Literal["cosine"] = "cosine"
    warmup_epochs: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="How many epochs the learning rate takes to rise to its peak. Parts of an epoch are allowed.",
    )


class ShiftParams(Section):
    """Random shifts, zero padded."""

    pixels: Count = Field(2, description="Each training image is moved by up to this many pixels each way.")


class FlipParams(Section):
    """Random mirror images, left to right."""

    probability: Fraction = Field(0.0, description="The chance that a training image is mirrored left to right.")


LossParams = Annotated[CrossEntropyParams | FocalParams, Field(discriminator="name"), named("cross_entropy")]
SamplerParams = Annotated[ShuffleParams | BalancedParams, Field(discriminator="name"), named("shuffle")]
OptimizerParams = Annotated[SgdParams, named("sgd")]
ScheduleParams = Annotated[CosineParams, named("cosine")]


class AugmentParams(Section):
    """The augmentations of the training images, in the order of AUGMENTATIONS."""

    shift: Annotated[ShiftParams, BeforeValidator(number_of("pixels"))] = ShiftParams()
    flip: Annotated[FlipParams, BeforeValidator(number_of("probability"))] = FlipParams()
