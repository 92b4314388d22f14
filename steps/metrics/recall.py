"""Top-1 and recall, from predicted classes and labels.

Letters: N images, K classes.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def predicted(scores_NK: npt.NDArray[np.floating]) -> Ints:
    """Return the class with the highest score; the lowest class id where scores are equal."""
    best_N: Ints = np.argmax(scores_NK, axis=1).astype(np.int64)
    return best_N


def top1(predicted_N: Ints, labels_N: Ints) -> float:
    """Return the fraction of images whose predicted class is the label; nan without images."""
    return float(np.mean(predicted_N == labels_N)) if labels_N.size else float("nan")


def recall_per_class(predicted_N: Ints, labels_N: Ints, class_num: int) -> Floats:
    """Return recall_K: the fraction of each class's images predicted as that class; nan without images."""
    images_K = np.bincount(labels_N, minlength=class_num)
    found_K = np.bincount(labels_N[predicted_N == labels_N], minlength=class_num)
    recall_K: Floats = np.full(class_num, np.nan)
    np.divide(found_K, images_K, out=recall_K, where=images_K > 0)
    return recall_K


def macro_recall(recall_K: Floats) -> float:
    """Return the mean recall over the classes that have images; every class has the same weight."""
    known_K = recall_K[~np.isnan(recall_K)]
    return float(known_K.mean()) if known_K.size else float("nan")


def worst_recall(recall_K: Floats) -> tuple[float, int | None]:
    """Return the lowest recall and its class, the first of equal ones; (nan, None) without images."""
    if np.isnan(recall_K).all():
        return float("nan"), None
    worst = int(np.nanargmin(recall_K))
    return float(recall_K[worst]), worst


def summary(predicted_N: Ints, labels_N: Ints, class_num: int) -> dict[str, float]:
    """Return the figures in every form's report: top1, macro_recall and worst_recall, by name."""
    recall_K = recall_per_class(predicted_N, labels_N, class_num)
    return {
        "top1": top1(predicted_N, labels_N),
        "macro_recall": macro_recall(recall_K),
        "worst_recall": worst_recall(recall_K)[0],
    }
