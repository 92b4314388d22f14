"""Outputs that no working model gives: each of them fails a form, even if all averages are good.

Letters: N test images, K classes, M stored scores of each image.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from steps.engines.sanity import LARGEST, noise_of
from steps.metrics.agreement import closeness
from steps.parity.evidence import Evidence, Unusable

# At a tie of two classes, another batch changes the softmax by less than this in any precision
# (building.consistency).
ROUNDED = 0.25
Fault = Callable[[Evidence], str | None]


def check_sound(form: Evidence) -> None:
    """Raise Unusable with the first fault of SOUND that the form's scores have."""
    for name, output_fault in SOUND.items():
        fault = output_fault(form)
        if fault is not None:
            raise Unusable(name, fault)


def not_finite(form: Evidence) -> str | None:
    """Return a sentence if images have a score that is infinite or not a number."""
    scores = form.scores
    bad_NM = ~np.isfinite(scores.logits_NM)  # such scores are stored first
    bad_N = bad_NM.any(axis=1) | ~np.isfinite(scores.logsumexp_N)
    if not bad_N.any():
        return None
    bad_K = np.asarray(bad_NM.any(axis=0))
    if scores.classes_NM is not None:
        bad_K = np.bincount(scores.classes_NM[bad_NM], minlength=scores.class_num) > 0
    classes = f" ({_classes(form, bad_K)})" if bad_K.any() else ""
    return f"{int(bad_N.sum())} of {len(bad_N)} images have scores that are not finite{classes}"


def saturated(form: Evidence) -> str | None:
    """Return a sentence if images have a score at the largest number of the form's precision."""
    precision, scores = form.card.precision, form.scores
    most_N = np.maximum(scores.logits_NM.max(axis=1), -scores.lowest_N)
    bad = int((most_N >= np.float32(LARGEST[precision])).sum())
    if not bad:
        return None
    return (
        f"{bad} of {len(most_N)} images have scores at {LARGEST[precision]:g}, the largest number in {precision}"
    )


def copies(form: Evidence) -> str | None:
    """Return a sentence if copies have other scores than the image that counts for them."""
    rows = np.flatnonzero(form.first_N != np.arange(len(form.first_N)))
    if not len(rows):
        return None
    first_N = form.first_N[rows]
    difference_N = closeness(form.scores.rows(first_N), form.scores.rows(rows)).difference.least_N
    found, worst = int((difference_N > ROUNDED).sum()), int(difference_N.argmax())
    if not found:
        return None
    names = f"'{form.ids[int(rows[worst])]}' and '{form.ids[int(first_N[worst])]}'"
    return (
        f"{found} of {len(rows)} copies have other scores than the image of the same bytes: the softmax of "
        f"{names} differs by {difference_N[worst]:.3g}"
    )


def constant(form: Evidence) -> str | None:
    """Return a sentence if the score of a class is the same in all test images, though the images differ.

    Classes without a test image are ignored: their score may be constant. Where not all scores were stored,
    evaluate counted these classes while it had all scores.
    """
    images, classes, names = len(form.labels_N), form.card.class_num, form.card.class_names
    if len(form.counted.ids) < 2:
        return None
    if form.scores.classes_NM is None:
        still_K = _still(form)
        found, first = int(still_K.sum()), int(still_K.argmax())
    else:
        found, first = form.report.still, form.report.first_still or 0
    if not found:
        return None
    return f"scores are the same in all {images} images ({found} of {classes} classes, the first '{names[first]}')"


def _still(form: Evidence) -> npt.NDArray[np.bool_]:
    logits_NK = form.scores.logits_NM
    seen_K = np.bincount(form.labels_N, minlength=form.card.class_num) > 0
    still_K: npt.NDArray[np.bool_] = seen_K & np.asarray(np.ptp(logits_NK, axis=0) <= noise_of(logits_NK))
    return still_K


# not_finite comes first: the other checks need finite scores
SOUND: dict[str, Fault] = {
    "not_finite": not_finite,
    "saturated": saturated,
    "constant": constant,
    "copies": copies,
}


def _classes(form: Evidence, bad_K: npt.NDArray[np.bool_]) -> str:
    found = np.flatnonzero(bad_K)
    return f"{len(found)} of {len(bad_K)} classes, the first '{form.card.class_names[found[0]]}'"
