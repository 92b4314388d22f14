"""What evaluate left of one form: its figures and its scores, checked to belong together.

Letters: N test images, K classes.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from steps.errors import BadInput, StepError
from steps.metrics.recall import Ints, predicted, top1
from steps.reports.card import Card
from steps.reports.evaluate import FormReport

COLUMNS = ["id", "label", "scores"]
SAME_FIGURE = 1e-9  # a mean of 0s and 1s, computed twice in float64


class Unusable(StepError):
    """A form whose evidence cannot be judged, so that it fails; `check` names what found it."""

    def __init__(self, check: str, sentence: str) -> None:
        super().__init__(f"{check}: {sentence}")
        self.check = check


class NotRun(StepError):
    """A form that was not run, with the reason; `exists` is false where there is no such model at all."""

    def __init__(self, sentence: str, exists: bool) -> None:
        super().__init__(sentence)
        self.exists = exists


@dataclass(frozen=True)
class Evidence:
    """One form on the test images, in the order of its file; logits may still be anything."""

    report: FormReport
    card: Card
    ids: pl.Series
    labels_N: Ints
    logits_NK: npt.NDArray[np.float32]

    @property
    def form(self) -> str:
        """Return the form's name."""
        return self.report.form

    @cached_property
    def predicted_N(self) -> Ints:
        """Return the class with the highest score of each image."""
        return predicted(self.logits_NK)

    @cached_property
    def right_N(self) -> npt.NDArray[np.bool_]:
        """Return where the predicted class is the labelled one."""
        right_N: npt.NDArray[np.bool_] = self.predicted_N == self.labels_N
        return right_N


def read_report(folder: Path, form: str) -> FormReport:
    """Return the form's figures, or raise Unusable when evaluate did not write them or refused."""
    try:
        report = FormReport.read(folder / f"{form}.json")
    except BadInput as fault:
        raise Unusable("evidence", str(fault)) from fault
    if report.refused is not None:
        raise Unusable("evidence", f"evaluate refused it: {report.refused}")
    if report.form != form:
        raise Unusable("evidence", f"{folder / f'{form}.json'} is of the form '{report.form}'; evaluate it again.")
    return report


def read_evidence(folder: Path, form: str) -> Evidence:
    """Return the form's figures and scores; raises NotRun if it was deferred, Unusable if they do not fit."""
    report = read_report(folder, form)
    if report.deferred is not None:
        raise NotRun(report.deferred, exists=report.card is not None)
    path = folder / f"{form}.parquet"
    if report.card is None:
        raise Unusable("evidence", f"{folder / f'{form}.json'} holds no card; evaluate it again.")
    scores = _read_scores(path)
    evidence = Evidence(
        report, report.card, scores["id"], _labels(scores, path), _logits(scores, path, report.card.class_num)
    )
    _check_figures(evidence, path)
    return evidence


def _read_scores(path: Path) -> pl.DataFrame:
    try:
        scores = pl.read_parquet(path, glob=False)
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise Unusable("evidence", f"{path} cannot be read: {_first_line(fault)}; evaluate it again.") from fault
    if scores.columns != COLUMNS or scores.is_empty():
        raise Unusable("evidence", f"{path} has {scores.height} rows of {scores.columns}, not scores of images.")
    return scores


def _labels(scores: pl.DataFrame, path: Path) -> Ints:
    labels = scores["label"]
    if not labels.dtype.is_integer() or labels.null_count():
        raise Unusable("evidence", f"{path} has labels that are no class ids; evaluate it again.")
    return labels.to_numpy().astype(np.int64)


def _logits(scores: pl.DataFrame, path: Path, class_num: int) -> npt.NDArray[np.float32]:
    """Return logits_NK of as many classes as the card names; a score that is missing becomes NaN."""
    column = scores["scores"]
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if column.dtype != pl.List(pl.Float32):
        raise Unusable("evidence", f"{path} holds scores of type {column.dtype}, not lists of float32 logits.")
    lengths = column.list.len()
    if lengths.null_count() or not (lengths == class_num).all():
        raise Unusable("evidence", f"{path} does not hold {class_num} scores an image, as its card says.")
    flat: npt.NDArray[np.float32] = column.explode().to_numpy().astype(np.float32, copy=False)
    return flat.reshape(-1, class_num)


def _check_figures(evidence: Evidence, path: Path) -> None:
    """Figures of one run beside the scores of another would judge a model that is not there."""
    labels_N, report = evidence.labels_N, evidence.report
    if labels_N.min() < 0 or labels_N.max() >= evidence.card.class_num:
        raise Unusable("evidence", f"{path} has a label outside [0, {evidence.card.class_num}).")
    if report.images != len(labels_N):
        raise Unusable(
            "images", f"{path} has scores of {len(labels_N)} images, its figures are of {report.images}."
        )
    figure = top1(evidence.predicted_N, labels_N)
    if report.top1 is None or abs(report.top1 - figure) > SAME_FIGURE:
        raise Unusable(
            "evidence", f"{path} gives a top-1 of {figure:.6f}, its figures say {report.top1}; evaluate it again."
        )


def _first_line(fault: Exception) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]
