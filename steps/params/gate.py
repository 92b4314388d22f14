"""`gate:` how much worse than the trained form a form may be, and which forms decide."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from steps.params.base import Fraction, Section


class GateParams(Section):
    """Drops are fractions (0.01 is one point), compared on the same test images, paired with `train`.

    What bounds the softmax leaves float32 and float16 room for twenty times what they round. Of an int8 engine it
    asks something: one that gives 99 % of the images the same class may still move the softmax by .12 in one of a
    hundred, and is then withheld with a sentence that names max_score_difference; who can bear that raises it.

    The forms in `required` decide; an engine that is not among them ships if it passes and is withheld if not.
    """

    required: tuple[str, ...] = ("fuse", "export")
    max_top1_drop: Fraction = 0.01
    max_recall_drop: Fraction = 0.05  # of any one class
    min_agreement: Fraction = 0.99
    min_class_agreement: Fraction = 0.95  # of any one class: where it holds, its recall drops by .05 at most
    max_score_difference: Fraction = 0.05  # of the softmax, in all but one of a hundred images
    # A tie that falls the other way moves the softmax by a half; from sure of one to sure of another is none.
    max_largest_score_difference: Fraction = 0.9  # in any image
    # Every image off by max_score_difference gives .005 (a tie) to .015 nats; one in 100 gone wrong gives .05.
    max_divergence: Annotated[float, Field(ge=0)] = 0.02  # mean Kullback-Leibler divergence, in nats
    # Whoever sets a threshold on the scores relies on it: softmax applied twice, or a lost scale, moves it by .1.
    max_calibration_increase: Fraction = 0.02
    # Of the scores before the softmax, in multiples of what the form's precision may round (parity/logits.py).
    max_logit_difference: Annotated[float, Field(ge=0)] = 1.0
    max_class_logit_difference: Annotated[float, Field(ge=0)] = 1.0  # of any one class, whose images or not
    classes: Literal["list", "strict"] = (
        "list"  # what a class with too few test images to say does: block, if strict
    )
    min_top1: Fraction = 0.0
    min_worst_recall: Fraction = 0.0
    champion: Literal["compare", "skip"] = "compare"  # with the release in production, where there is one
    max_champion_drop: Fraction = 0.01  # how much worse than that release
    # What is left of it is shared among the classes of all comparisons: above, a float64 could not hold a share.
    confidence: Annotated[float, Field(gt=0.5, le=0.999999)] = 0.95

    @field_validator("required")
    @classmethod
    def _name_what_ships(cls, required: tuple[str, ...]) -> tuple[str, ...]:
        if "export" not in required:
            raise ValueError("must name 'export': its model is in every release")
        if len(set(required)) < len(required):
            raise ValueError("a form is listed twice")
        return required
