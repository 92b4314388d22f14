"""`gate:` how much worse than the trained form a form may be, and which forms decide."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from steps.params.base import Fraction, Section


class GateParams(Section):
    """How much worse than the trained form a form may be, and which forms decide.

    All forms are compared with `train` on the same test images, image by image. Drops are fractions: 0.01 is one
    point. The bounds on the softmax are about twenty times what float32 and float16 round. An int8 engine that
    gives 99 % of the images the same class may still move the softmax by 0.12 in one of a hundred images. The gate
    then withholds the engine, and the verdict names `gate.max_score_difference`; raise the bound if 0.12 is
    acceptable.
    """

    required: tuple[str, ...] = Field(
        ("fuse", "export"),
        description="The forms that decide. Another engine ships if it passes, and is withheld if it does not.",
        json_schema_extra={"allowed": "list of `fuse`, `export` (always) and names under `engines`"},
    )
    max_top1_drop: Fraction = Field(
        0.01, description="How much lower the top-1 accuracy of a form may be than that of the trained form."
    )
    max_recall_drop: Fraction = Field(
        0.05, description="How much lower the recall of any one class may be than in the trained form."
    )
    min_agreement: Fraction = Field(
        0.99, description="The share of test images that must get the same class as from the trained form."
    )
    # Where the default holds, the recall of a class drops by 0.05 at most.
    min_class_agreement: Fraction = Field(
        0.95,
        description="The same share for any one class, of the images that the trained form puts into the class. "
        "A form fails where a class is shown to be below, as when two rare classes are swapped.",
    )
    max_score_difference: Fraction = Field(
        0.05,
        description="How far the softmax may differ from that of the trained form, in all but one of a hundred "
        "images. An int8 engine may need `0.15`.",
    )
    # A tie that falls the other way moves the softmax by 0.5. A certain answer that becomes another certain answer
    # moves the softmax by 1.
    max_largest_score_difference: Fraction = Field(
        0.9, description="How far the softmax may differ in any single image."
    )
    # A difference of max_score_difference in every image gives 0.005 (a tie) to 0.015 nats. One wrong image in 100
    # gives 0.05.
    max_divergence: Annotated[float, Field(ge=0)] = Field(
        0.02,
        description="The largest mean Kullback-Leibler divergence of the softmax from that of the trained form, "
        "in nats.",
    )
    # A threshold on the scores relies on the calibration. A softmax applied twice, or a lost scale, moves the
    # calibration error by 0.1.
    max_calibration_increase: Fraction = Field(
        0.02, description="How much larger the expected calibration error may be than that of the trained form."
    )
    # The roundings of each precision are ROUNDING in steps/parity/logits.py.
    max_logit_difference: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="How far the logits may differ, in multiples of 0.05 (fp32, fp16), 0.1 (bf16) or 0.25 (int8) "
        "of the spread of the logits of the trained form. The mean of each image is subtracted from its logits "
        "first. The softmax of a very certain network does not show such a difference.",
    )
    max_class_logit_difference: Annotated[float, Field(ge=0)] = Field(
        1.0,
        description="How far the logits of any one class may differ over all images, in multiples of twice the "
        "shares of `gate.max_logit_difference`. The criterion shows that two classes are swapped, also where the "
        "classes are too similar, or their images too few, to change the other criteria.",
    )
    classes: Literal["list", "strict"] = Field(
        "list",
        description="What happens to a class with too few test images for a judgement. `list`: the verdict lists "
        "the class. `strict`: the class blocks the form. The same holds, beyond 1,000 classes, for a divergence "
        "that is likely within its bound, but not shown to be by the scores that were kept. A class beyond "
        "`gate.max_class_logit_difference` on the test images, though not shown to be on other images, blocks "
        "the form in both modes (up to 1,000 classes).",
    )
    min_top1: Fraction = Field(0.0, description="The top-1 accuracy that each form must be shown to reach.")
    min_worst_recall: Fraction = Field(
        0.0, description="The recall that the worst class must reach on the test images."
    )
    champion: Literal["compare", "skip"] = Field(
        "compare",
        description="Whether the release in production, where there is one, must be compared. A champion that "
        "cannot be compared (other classes) stops the release unless the value is `skip`.",
    )
    max_champion_drop: Fraction = Field(
        0.01,
        description="How much lower the top-1 accuracy may be than that of the release in production, for each "
        "form that replaces a form in production: the export, and every engine.",
    )
    # All classes of all comparisons share the rest to 1. Above the largest value, a float64 cannot hold a share.
    confidence: Annotated[float, Field(gt=0.5, le=0.999999)] = Field(
        0.95,
        description="The confidence of the bounds on accuracy. The rest to 1 is the error probability of a "
        "judgement `fail`. All comparisons share this error.",
    )

    @field_validator("required")
    @classmethod
    def _name_what_ships(cls, required: tuple[str, ...]) -> tuple[str, ...]:
        if "export" not in required:
            raise ValueError("must name 'export': its model is in every release")
        if len(set(required)) < len(required):
            raise ValueError("a form is listed twice")
        return required
