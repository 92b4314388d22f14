"""The test images on which two forms differ most, from the scores of evaluate.

Letters: N images, M stored scores of each image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from steps.errors import BadInput
from steps.metrics.agreement import closeness
from steps.metrics.scores import Floats, Ints, Scores
from steps.parity.evidence import read_sealed_scores
from steps.reports.evaluate import FormReport

TOP = 3
Top = tuple[tuple[int, float], ...]  # (class id, share of the softmax), the highest first


@dataclass(frozen=True)
class WorstImage:
    """An image's name and both forms' top classes; no classes where the scores cannot be compared."""

    name: str
    difference: float | None = None
    of_reference: Top = ()
    of_form: Top = ()


def worst_images(evaluate: Path, form: str, reference: str, names: Sequence[str], count: int) -> list[WorstImage]:
    """Return `count` images that are in both files, the largest difference of the softmax first.

    Images with a score that is not finite come first. Where a file is missing or cannot be compared, the first of
    `names` are returned, because a fault of a network shows on any image.
    """
    try:
        return _worst(_scores(evaluate, reference), _scores(evaluate, form), count)
    except BadInput:
        return [WorstImage(name) for name in names[:count]]


def _scores(evaluate: Path, form: str) -> tuple[pl.DataFrame, Scores]:
    """Return the rows of the images, each image once, and the scores of all rows."""
    report = FormReport.read(evaluate / f"{form}.json")
    if report.card is None:
        raise BadInput(f"{evaluate / form}.json holds no card.")
    images, scores = read_sealed_scores(evaluate / f"{form}.parquet", report, report.card)
    return images.select("id").with_row_index("row").unique("id", keep="first", maintain_order=True), scores


def _worst(
    reference: tuple[pl.DataFrame, Scores], form: tuple[pl.DataFrame, Scores], count: int
) -> list[WorstImage]:
    both = reference[0].join(form[0], on="id", how="inner", suffix="_form", maintain_order="left")
    if both.is_empty() or reference[1].class_num != form[1].class_num:
        raise BadInput("no image can be compared.")
    one, other = reference[1].rows(both["row"].to_numpy()), form[1].rows(both["row_form"].to_numpy())
    difference_N = _differences(one, other)
    order_N = np.argsort(-difference_N, kind="stable")[:count]
    return [
        WorstImage(both["id"][int(row)], float(difference_N[row]), _top(one, row), _top(other, row))
        for row in order_N
    ]


def _differences(one: Scores, other: Scores) -> Floats:
    """Return the largest difference of each image's softmax, infinite where a score is not finite."""
    finite_N = np.all([np.isfinite(scores.logits_NM).all(axis=1) for scores in (one, other)], axis=0)
    difference_N = np.full(len(finite_N), np.inf)
    if finite_N.any():
        finite_rows_N = np.flatnonzero(finite_N)
        difference_N[finite_rows_N] = closeness(
            one.rows(finite_rows_N), other.rows(finite_rows_N)
        ).difference.most_N
    return difference_N


def _top(scores: Scores, row: int) -> Top:
    order_M: Ints = np.argsort(-scores.logits_NM[row], kind="stable")[:TOP]
    classes_M = np.arange(scores.class_num) if scores.classes_NM is None else scores.classes_NM[row]
    with np.errstate(invalid="ignore", over="ignore"):
        shares_M = np.exp(scores.logits_NM[row].astype(np.float64) - scores.logsumexp_N[row])
    return tuple((int(classes_M[place]), float(shares_M[place])) for place in order_M)
