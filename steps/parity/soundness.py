"""Outputs that no working model gives: each of these fails a form, whatever its averages say.

Letters: N test images, K classes.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from steps.backends.sanity import CONSTANT, LARGEST
from steps.parity.evidence import Evidence, Unusable

Fault = Callable[[Evidence], str | None]


def check_sound(form: Evidence) -> None:
    """Raise Unusable with the first fault of SOUND that the form's scores have."""
    for name, fault_of in SOUND.items():
        fault = fault_of(form)
        if fault is not None:
            raise Unusable(name, fault)


def not_finite(form: Evidence) -> str | None:
    """Return how many images have a score that is not a number, or infinite."""
    bad_NK = ~np.isfinite(form.logits_NK)
    bad = int(bad_NK.any(axis=1).sum())
    if not bad:
        return None
    classes = _classes(form, np.asarray(bad_NK.any(axis=0)))
    return f"{bad} of {len(bad_NK)} images have scores that are not finite ({classes})"


def saturated(form: Evidence) -> str | None:
    """Return how many images have a score at the largest number of the form's precision."""
    precision = form.card.precision
    bad_NK = np.abs(form.logits_NK) >= np.float32(LARGEST[precision])
    bad = int(bad_NK.any(axis=1).sum())
    if not bad:
        return None
    return (
        f"{bad} of {len(bad_NK)} images have scores at {LARGEST[precision]:g}, the largest number in {precision}"
    )


def constant(form: Evidence) -> str | None:
    """Return the classes whose score is the same in all test images, though the images differ.

    Classes without a test image are left out: nothing says that their score should move.
    """
    seen_K = np.bincount(form.labels_N, minlength=form.card.class_num) > 0
    noise = CONSTANT * float(np.abs(form.logits_NK).max())
    still_K = seen_K & np.asarray(np.ptp(form.logits_NK, axis=0) <= noise)
    if len(form.labels_N) < 2 or not still_K.any():
        return None
    return f"scores are the same in all {len(form.labels_N)} images ({_classes(form, still_K)})"


# in this order: what is not finite cannot be measured further
SOUND: dict[str, Fault] = {"not_finite": not_finite, "saturated": saturated, "constant": constant}


def _classes(form: Evidence, bad_K: npt.NDArray[np.bool_]) -> str:
    found = np.flatnonzero(bad_K)
    return f"{len(found)} of {len(bad_K)} classes, the first '{form.card.class_names[found[0]]}'"
