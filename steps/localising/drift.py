"""The first tensor at which two forms drift apart: all that both compute on the same images, side by side.

The gate does not import this: it judges from scores, and this looks into the forms afterwards.
Letters: N images.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steps.engines.intermediate import Intermediate
from steps.engines.sanity import largest_finite
from steps.reports.card import Precision

LOGITS = "logits_NK"
# what a form may differ by, tensor by tensor, where nothing is wrong: rounding, and int8's 256 steps
TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.15}
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """How far a tensor of the form is from the reference's: the root mean square of the difference over its own.

    `error` is infinite where one of the two is finite and the other is not, or the form's has another shape.
    Where both hold the same infinity, such as what a max pooling is padded with, only the rest is compared.
    """

    name: str
    operator: str
    layer: str
    error: float
    largest: float  # absolute value in the reference, of those that are finite
    constant: bool  # the same for all images in the form, and not in the reference
    finite: bool  # whether the form's is wherever the reference's is


def drifts(pairs: Iterable[tuple[Intermediate, Intermediate]]) -> list[Drift]:
    """Return the drift of each pair (reference, form), in the order given."""
    return [_drift(reference, form) for reference, form in pairs]


def first_drift(found: Sequence[Drift], precision: Precision) -> Drift | None:
    """Return the first tensor that is further off than its precision explains, or None."""
    return next((drift for drift in found if not drift.error <= TOLERANCE[precision]), None)


def pair_by_name(
    reference: Sequence[Intermediate], form: Sequence[Intermediate], leave_out: Iterable[str] = ()
) -> list[tuple[Intermediate, Intermediate]]:
    """Return the tensors that have one name in both, in the reference's order."""
    return _paired(reference, form, lambda tensor: tensor.name, set(leave_out))


def pair_by_layer(
    reference: Sequence[Intermediate], form: Sequence[Intermediate]
) -> list[tuple[Intermediate, Intermediate]]:
    """Return what the layers of one name give, for a module and its graph, and the logits."""
    return _paired(reference, form, lambda tensor: LOGITS if tensor.name == LOGITS else tensor.layer, {""})


def _paired(
    reference: Sequence[Intermediate],
    form: Sequence[Intermediate],
    key: Callable[[Intermediate], str],
    leave_out: set[str],
) -> list[tuple[Intermediate, Intermediate]]:
    of_form: dict[str, Intermediate] = {}
    for tensor in form:
        of_form.setdefault(key(tensor), tensor)
    pairs: dict[str, tuple[Intermediate, Intermediate]] = {}
    for tensor in reference:
        name = key(tensor)
        if name in of_form and name not in leave_out:
            pairs.setdefault(name, (tensor, of_form[name]))
    return list(pairs.values())


def _drift(reference: Intermediate, form: Intermediate) -> Drift:
    wanted, found = _without_shared(*(tensor.values_N.astype(np.float64) for tensor in (reference, form)))
    return Drift(
        name=reference.name,
        operator=form.operator,
        layer=reference.layer or form.layer,
        error=_error(wanted, found),
        largest=largest_finite(wanted),
        constant=_is_constant(found) and not _is_constant(wanted),
        finite=_is_finite_where(wanted, found),
    )


def _without_shared(wanted: Reals, found: Reals) -> tuple[Reals, Reals]:
    """Return both with 0 where they hold the same infinity, or both no number: that is no drift of the form's."""
    if wanted.shape != found.shape:
        return wanted, found
    same = (np.isinf(wanted) & (wanted == found)) | (np.isnan(wanted) & np.isnan(found))
    return np.where(same, 0.0, wanted), np.where(same, 0.0, found)


def _is_finite_where(wanted: Reals, found: Reals) -> bool:
    """Tell whether the form is finite wherever the reference is."""
    finite = np.isfinite(found)
    return bool((finite | ~np.isfinite(wanted) if wanted.shape == found.shape else finite).all())


def _error(wanted: Reals, found: Reals) -> float:
    if wanted.shape != found.shape or not (np.isfinite(wanted).all() and np.isfinite(found).all()):
        return math.inf
    scale = float(np.sqrt(np.mean(wanted**2)))
    difference = float(np.sqrt(np.mean((wanted - found) ** 2)))
    return 0.0 if difference == 0 else difference / scale if scale > 0 else math.inf


def _is_constant(values_N: Reals) -> bool:
    if len(values_N) < 2 or not np.isfinite(values_N).all():
        return False
    return bool(np.ptp(values_N, axis=0).max(initial=0) <= 1e-6 * np.abs(values_N).max())
