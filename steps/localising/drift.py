"""Find the first tensor at which two forms differ, from the tensors that both forms compute on the same images.

The gate does not import this room: the gate judges scores only.
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
# the allowed difference of one tensor: rounding, and int8's 256 steps
TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2, "int8": 0.15}
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """The drift of one tensor: `error` is rms(form - reference) / rms(reference).

    `error` is infinite where one tensor is finite and the other is not, or where the shapes differ. Elements that
    are the same infinity in both, such as the padding of a max pooling, are not compared.
    """

    name: str
    operator: str
    layer: str
    error: float
    largest: float  # the largest finite absolute value in the reference
    constant: bool  # the same for all images in the form, but not in the reference
    finite: bool  # the form is finite wherever the reference is finite


def drifts(pairs: Iterable[tuple[Intermediate, Intermediate]]) -> list[Drift]:
    """Return the drift of each pair (reference, form), in the order given."""
    return [_drift(reference, form) for reference, form in pairs]


def first_drift(found: Sequence[Drift], precision: Precision) -> Drift | None:
    """Return the first tensor whose error exceeds the tolerance of the precision, or None."""
    return next((drift for drift in found if not drift.error <= TOLERANCE[precision]), None)


def pair_by_name(
    reference: Sequence[Intermediate], form: Sequence[Intermediate], leave_out: Iterable[str] = ()
) -> list[tuple[Intermediate, Intermediate]]:
    """Return the pairs of tensors with the same name, in the reference's order."""
    return _paired(reference, form, lambda tensor: tensor.name, set(leave_out))


def pair_by_layer(
    reference: Sequence[Intermediate], form: Sequence[Intermediate]
) -> list[tuple[Intermediate, Intermediate]]:
    """Return the pairs of outputs of layers with the same name, and the logits, for a module and its graph."""
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
    expected, found = _without_shared(*(tensor.values_N.astype(np.float64) for tensor in (reference, form)))
    return Drift(
        name=reference.name,
        operator=form.operator,
        layer=reference.layer or form.layer,
        error=_error(expected, found),
        largest=largest_finite(expected),
        constant=_is_constant(found) and not _is_constant(expected),
        finite=_is_finite_where(expected, found),
    )


def _without_shared(expected: Reals, found: Reals) -> tuple[Reals, Reals]:
    """Return both with 0 where both are the same infinity or both are NaN: the form does not drift there."""
    if expected.shape != found.shape:
        return expected, found
    same = (np.isinf(expected) & (expected == found)) | (np.isnan(expected) & np.isnan(found))
    return np.where(same, 0.0, expected), np.where(same, 0.0, found)


def _is_finite_where(expected: Reals, found: Reals) -> bool:
    """Tell whether the form is finite wherever the reference is."""
    finite = np.isfinite(found)
    return bool((finite | ~np.isfinite(expected) if expected.shape == found.shape else finite).all())


def _error(expected: Reals, found: Reals) -> float:
    if expected.shape != found.shape or not (np.isfinite(expected).all() and np.isfinite(found).all()):
        return math.inf
    scale = float(np.sqrt(np.mean(expected**2)))
    difference = float(np.sqrt(np.mean((expected - found) ** 2)))
    return 0.0 if difference == 0 else difference / scale if scale > 0 else math.inf


def _is_constant(values_N: Reals) -> bool:
    if len(values_N) < 2 or not np.isfinite(values_N).all():
        return False
    return bool(np.ptp(values_N, axis=0).max(initial=0) <= 1e-6 * np.abs(values_N).max())
