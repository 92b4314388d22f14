"""How often each class is found: numbers from scores and labels, pure numpy.

Letters: N images, K classes.
"""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def predicted(scores_NK: npt.NDArray[np.floating]) -> Ints:
    """Return the class with the highest score; of equal scores the lowest class id."""
    best_N: Ints = np.argmax(scores_NK, axis=1).astype(np.int64)
    return best_N


def top1(predicted_N: Ints, labels_N: Ints) -> float:
    """Return the fraction of images whose class was found; nan without images."""
    return float(np.mean(predicted_N == labels_N)) if labels_N.size else float("nan")


def recall_per_class(predicted_N: Ints, labels_N: Ints, class_num: int) -> Floats:
    """Return recall_K: the fraction of each class's images that were found; nan for a class without images."""
    images_K = np.bincount(labels_N, minlength=class_num)
    found_K = np.bincount(labels_N[predicted_N == labels_N], minlength=class_num)
    recall_K: Floats = np.full(class_num, np.nan)
    np.divide(found_K, images_K, out=recall_K, where=images_K > 0)
    return recall_K


def macro_recall(recall_K: Floats) -> float:
    """Return the mean over the classes that have images; each counts the same, however many images it has."""
    known_K = recall_K[~np.isnan(recall_K)]
    return float(known_K.mean()) if known_K.size else float("nan")


def worst_recall(recall_K: Floats) -> tuple[float, int | None]:
    """Return the lowest recall and its class, the first of equals; (nan, None) without images."""
    if np.isnan(recall_K).all():
        return float("nan"), None
    worst = int(np.nanargmin(recall_K))
    return float(recall_K[worst]), worst


def summary(predicted_N: Ints, labels_N: Ints, class_num: int) -> dict[str, float]:
    """Return top1, macro_recall and worst_recall, by these names: the figures that every form is reported with."""
    recall_K = recall_per_class(predicted_N, labels_N, class_num)
    return {
        "top1": top1(predicted_N, labels_N),
        "macro_recall": macro_recall(recall_K),
        "worst_recall": worst_recall(recall_K)[0],
    }
