"""The gate's criteria: each criterion is one function, and one key of `gate:` in these tables."""

from steps.parity.accuracy import champion_drop, lowest_recall, recall_drop, top1, top1_drop
from steps.parity.closeness import (
    agreement,
    calibration_increase,
    class_agreement,
    divergence,
    largest_score_difference,
    score_difference,
)
from steps.parity.logits import class_logit_difference, logit_difference
from steps.parity.pair import Rule

# key of `gate:` -> criterion. The order decides the sentence of a form: the first of the worst criteria.
PAIRED: dict[str, Rule] = {
    "max_top1_drop": top1_drop,
    "max_recall_drop": recall_drop,
    "min_agreement": agreement,
    "min_class_agreement": class_agreement,
    "max_score_difference": score_difference,
    "max_largest_score_difference": largest_score_difference,
    "max_divergence": divergence,
    "max_calibration_increase": calibration_increase,
    "max_logit_difference": logit_difference,
    "max_class_logit_difference": class_logit_difference,
}
FLOORS: dict[str, Rule] = {"min_top1": top1, "min_worst_recall": lowest_recall}
AGAINST_CHAMPION: dict[str, Rule] = {"max_champion_drop": champion_drop}


def comparisons(forms: int) -> int:
    """Return how many comparisons share the error of a wrong fail; `forms` counts all forms but the trained one.

    The comparisons are: each criterion of each form, chance and the floors of the trained form, and the champion
    with each form that can ship (all but fuse).
    """
    return forms * len(PAIRED | FLOORS) + 1 + len(FLOORS) + (forms - 1) * len(AGAINST_CHAMPION)
