"""data/evaluate/FORM.parquet: the stored scores of a form, written by evaluate and read by the gate.

Letters: N images, K classes, M stored scores of each image.
Each row has an image's id, its label, and the checksum of its bytes (copies share the checksum). Up to WHOLE
classes, the row has all scores: float32 logits, in the order of the classes. Beyond WHOLE classes, the row has
- the HIGHEST highest scores, the highest first (scores that are not finite come before all others),
- `classes`: the class ids of these scores,
- `logsumexp` over all K scores, NaN where a score is not finite,
- `lowest`: the smallest of all K scores.
A score that was not stored lies between `lowest` and the last stored score.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from steps.errors import BadInput

WHOLE = 1000
HIGHEST = 100
CHUNK = 4096  # images at a time: float64 copies of a large test set would need much memory
IMAGES = {"id": pl.String(), "label": pl.Int64(), "checksum": pl.String()}
COLUMNS = [*IMAGES, "scores"]
BEYOND = ["classes", "logsumexp", "lowest"]

Logits = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """The scores of N images, in the order of the classes; with `classes_NM`, in the order of these classes."""

    class_num: int
    logits_NM: Logits
    logsumexp_N: Floats
    lowest_N: Logits
    classes_NM: npt.NDArray[np.int32] | None = None

    def rows(self, which: Ints | slice) -> "Scores":
        """Return the scores of the images `which`, in that order."""
        classes_NM = None if self.classes_NM is None else self.classes_NM[which]
        kept = self.logits_NM[which], self.logsumexp_N[which], self.lowest_N[which]
        return Scores(self.class_num, *kept, classes_NM)

    def parts(self) -> Iterator["Scores"]:
        """Yield the scores of CHUNK images at a time."""
        for begin in range(0, len(self.logits_NM), CHUNK):
            yield self.rows(slice(begin, begin + CHUNK))

    @property
    def predicted_N(self) -> Ints:
        """Return each image's class with the highest score; the lowest class id where scores are equal."""
        if self.classes_NM is not None:
            return self.classes_NM[:, 0].astype(np.int64)
        first_N: Ints = self.logits_NM.argmax(axis=1).astype(np.int64)
        return first_N

    @property
    def confidence_N(self) -> Floats:
        """Return the softmax of the predicted class; the scores must be finite."""
        confidence_N: Floats = np.exp(self.logits_NM.max(axis=1).astype(np.float64) - self.logsumexp_N)
        return confidence_N


class Keeper:
    """Collects the scores for FORM.parquet from the logits of one batch after another."""

    def __init__(self, class_num: int) -> None:
        self.class_num = class_num
        self._parts: list[Scores] = []
        self._least_K = np.full(class_num, np.inf, np.float32)
        self._most_K = np.full(class_num, -np.inf, np.float32)

    def add(self, logits_NK: Logits) -> None:
        """Store what FORM.parquet needs of a batch."""
        self._parts.append(keep(logits_NK))
        with np.errstate(invalid="ignore"):  # a NaN stays NaN, so the class does not count as constant
            self._least_K = np.minimum(self._least_K, logits_NK.min(axis=0))
            self._most_K = np.maximum(self._most_K, logits_NK.max(axis=0))

    @property
    def scores(self) -> Scores:
        """Return the stored scores of all batches, in their order."""
        return joined(self._parts)

    def still(self, noise: float) -> npt.NDArray[np.bool_]:
        """Return still_K: the mask of the classes whose score varies by at most `noise` over all images."""
        with np.errstate(invalid="ignore"):
            still_K: npt.NDArray[np.bool_] = self._most_K - self._least_K <= noise
        return still_K


def keep(logits_NK: Logits) -> Scores:
    """Return the scores to store: all logits, or the highest logits of each image."""
    class_num = logits_NK.shape[1]
    if class_num <= WHOLE:
        return Scores(class_num, logits_NK, logsumexp(logits_NK), logits_NK.min(axis=1))
    classes_NM = _highest(logits_NK)
    kept_NM = np.take_along_axis(logits_NK, classes_NM, axis=1)
    return Scores(class_num, kept_NM, logsumexp(logits_NK), logits_NK.min(axis=1), classes_NM.astype(np.int32))


def joined(parts: Sequence[Scores]) -> Scores:
    """Return the scores of all parts, joined."""
    assert parts, "there is no batch"
    classes = [part.classes_NM for part in parts if part.classes_NM is not None]
    return Scores(
        parts[0].class_num,
        np.concatenate([part.logits_NM for part in parts]),
        np.concatenate([part.logsumexp_N for part in parts]),
        np.concatenate([part.lowest_N for part in parts]),
        np.concatenate(classes) if classes else None,
    )


def logsumexp(logits_NK: Logits) -> Floats:
    """Return the logarithm of the sum of exponentials over the classes; NaN where a score is not finite."""
    sums_N: Floats = np.full(len(logits_NK), np.nan)
    for begin in range(0, len(logits_NK), CHUNK):
        part = logits_NK[begin : begin + CHUNK]
        finite = np.isfinite(part).all(axis=1)
        wide = part[finite].astype(np.float64)
        highest = wide.max(axis=1, keepdims=True)
        sums_N[begin : begin + CHUNK][finite] = np.log(np.exp(wide - highest).sum(axis=1)) + highest[:, 0]
    return sums_N


def write_scores(path: Path, images: pl.DataFrame, scores: Scores | None) -> None:
    """Write FORM.parquet from `images` (the columns of IMAGES) and scores; None for a form without scores."""
    columns = {"scores": pl.Series([], dtype=pl.List(pl.Float32))}
    if scores is not None:
        columns["scores"] = _lists(scores.logits_NM, pl.Float32())
        if scores.classes_NM is not None:
            columns["classes"] = _lists(scores.classes_NM, pl.Int32())
            columns["logsumexp"] = pl.Series(scores.logsumexp_N)
            columns["lowest"] = pl.Series(scores.lowest_N)
    images.select(list(IMAGES)).with_columns(**columns).write_parquet(path, compression="zstd")


def read_scores(path: Path, class_num: int) -> tuple[pl.DataFrame, Scores]:
    """Return the images (the columns of IMAGES) and their scores, or raise BadInput for any other file."""
    try:
        table = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as fault:
        reason = (str(fault).splitlines() or [type(fault).__name__])[0]
        raise BadInput(f"{path} cannot be read: {reason}; evaluate the form again.") from fault
    whole = class_num <= WHOLE
    if table.columns != (COLUMNS if whole else COLUMNS + BEYOND) or table.is_empty():
        raise BadInput(
            f"{path} has {table.height} rows of {table.columns}, not scores of images in {class_num} classes."
        )
    labels = table["label"]
    if not labels.dtype.is_integer() or labels.null_count():
        raise BadInput(f"{path} has labels that are no class ids; evaluate the form again.")
    for column, content in (("id", "names of images"), ("checksum", "checksums of images")):
        if table[column].dtype != pl.String or table[column].null_count():
            raise BadInput(f"{path} has {column}s that are no {content}; evaluate the form again.")
    width = class_num if whole else HIGHEST
    logits_NM = _matrix(table["scores"], pl.Float32(), width, path).astype(np.float32, copy=False)
    images = table.select(pl.col(name).cast(kind) for name, kind in IMAGES.items())
    return images, _scores(table, logits_NM, class_num, path)


def _scores(table: pl.DataFrame, logits_NM: Logits, class_num: int, path: Path) -> Scores:
    if class_num <= WHOLE:
        return Scores(class_num, logits_NM, logsumexp(logits_NM), logits_NM.min(axis=1))
    classes_NM = _matrix(table["classes"], pl.Int32(), HIGHEST, path).astype(np.int32, copy=False)
    sums_N = table["logsumexp"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    lowest_N = table["lowest"].cast(pl.Float32).fill_null(np.nan).to_numpy()
    scores = Scores(class_num, logits_NM, sums_N, lowest_N, classes_NM)
    fault = _contradiction(scores)
    if fault:
        raise BadInput(f"{path} {fault}; evaluate the form again.")
    return scores


def _contradiction(scores: Scores) -> str | None:
    """Return a contradiction in the stored scores, or None. The gate's bounds rely on these scores."""
    assert scores.classes_NM is not None
    ordered_NM = np.sort(scores.classes_NM, axis=1)
    if ordered_NM[:, 0].min() < 0 or ordered_NM[:, -1].max() >= scores.class_num:
        return f"has a class outside [0, {scores.class_num})"
    if (np.diff(ordered_NM, axis=1) == 0).any():
        return "has a class twice in one image"
    finite_N = np.isfinite(scores.logsumexp_N)  # other images fail the check not_finite
    kept_NM = scores.logits_NM[finite_N].astype(np.float64)
    if not (np.diff(kept_NM, axis=1) <= 0).all() or not (scores.lowest_N[finite_N] <= kept_NM[:, -1]).all():
        return "does not have the highest scores first"
    kept_N, omitted = logsumexp(scores.logits_NM[finite_N]), scores.class_num - HIGHEST
    least_N, most_N = (
        np.logaddexp(kept_N, end_N + np.log(omitted))
        for end_N in (scores.lowest_N[finite_N].astype(np.float64), kept_NM[:, -1])
    )
    slack_N = 1e-6 * np.maximum(1, np.abs(kept_N))
    sums_N = scores.logsumexp_N[finite_N]
    if not ((least_N - slack_N <= sums_N) & (sums_N <= most_N + slack_N)).all():
        return "has values of logsumexp that its scores contradict"
    return None


def _highest(logits_NK: Logits) -> Ints:
    """Return classes_NM of the highest scores, scores not finite first, equal scores by class id."""
    key_NK = np.where(np.isfinite(logits_NK), logits_NK, np.float32(np.inf))
    found_NM = np.argpartition(key_NK, -HIGHEST, axis=1)[:, -HIGHEST:]
    best_N = key_NK.argmax(axis=1)  # the first of equal scores, which a partition may omit
    rows = np.flatnonzero((found_NM != best_N[:, None]).all(axis=1))
    found_NM[rows, 0] = best_N[rows]  # a partition puts its lowest score first
    found_NM.sort(axis=1)
    by_score_NM = np.argsort(-np.take_along_axis(key_NK, found_NM, axis=1), axis=1, kind="stable")
    return np.take_along_axis(found_NM, by_score_NM, axis=1)


def _lists(matrix_NM: npt.NDArray[np.number], number: pl.DataType) -> pl.Series:
    """Return the rows of a matrix as lists, without a Python object for each number."""
    return pl.Series(np.ascontiguousarray(matrix_NM)).cast(pl.List(number))


def _matrix(column: pl.Series, number: pl.DataType, width: int, path: Path) -> npt.NDArray[np.number]:
    """Return a column of lists as one array; a missing float becomes NaN, which a later check refuses."""
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if column.dtype != pl.List(number):
        raise BadInput(f"{path} holds {column.name} of type {column.dtype}, not lists of {number}.")
    lengths = column.list.len()
    if lengths.null_count() or not (lengths == width).all():
        raise BadInput(f"{path} does not hold {width} {column.name} for each image, as its card requires.")
    flat = column.explode()
    if flat.null_count() and not number.is_float():
        raise BadInput(f"{path} has missing numbers in {column.name}; evaluate the form again.")
    numbers: npt.NDArray[np.number] = flat.to_numpy()
    return numbers.reshape(-1, width)
