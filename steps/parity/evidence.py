"""The figures and the scores that evaluate wrote for one form, and the checks that both belong together.

Letters: N test images.
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from steps.errors import BadInput, StepError
from steps.files import sha256
from steps.metrics.recall import Ints, summary
from steps.metrics.scores import Scores, read_scores
from steps.reports.card import Card
from steps.reports.evaluate import FormReport

SAME_FIGURE = 1e-9  # the figures are means of 0s and 1s in float64; two computations differ by rounding alone


class Unusable(StepError):
    """A form whose evidence cannot be judged, so that the form fails; `check` names the check that failed."""

    def __init__(self, check: str, sentence: str) -> None:
        super().__init__(f"{check}: {sentence}")
        self.check = check


class NotRun(StepError):
    """A form that was not run, with the reason; `exists` is false where the model does not exist."""

    def __init__(self, sentence: str, exists: bool) -> None:
        super().__init__(sentence)
        self.exists = exists


@dataclass(frozen=True)
class Evidence:
    """One form on the test images, in the order of its file; the scores are not checked yet."""

    report: FormReport
    card: Card
    ids: pl.Series
    labels_N: Ints
    checksums: pl.Series
    scores: Scores

    @property
    def form(self) -> str:
        """Return the form's name."""
        return self.report.form

    @cached_property
    def predicted_N(self) -> Ints:
        """Return the class with the highest score of each image."""
        return self.scores.predicted_N

    @cached_property
    def first_N(self) -> Ints:
        """Return, for each image, the row of the first image with the same bytes."""
        rows = pl.DataFrame({"checksum": self.checksums}).with_row_index()
        first = rows.select(pl.col("index").first().over("checksum")).to_series()
        return first.to_numpy().astype(np.int64)

    @cached_property
    def counted(self) -> "Evidence":
        """Return the evidence without copies: each image counts once, however often the test set lists it."""
        rows = np.flatnonzero(self.first_N == np.arange(len(self.first_N)))
        if len(rows) == len(self.first_N):
            return self
        kept = self.ids[rows], self.labels_N[rows], self.checksums[rows], self.scores.rows(rows)
        return Evidence(self.report, self.card, *kept)

    @cached_property
    def right_N(self) -> npt.NDArray[np.bool_]:
        """Return the mask of the images whose predicted class is the label."""
        right_N: npt.NDArray[np.bool_] = self.predicted_N == self.labels_N
        return right_N


def read_report(folder: Path, form: str) -> FormReport:
    """Return the form's figures; raise Unusable if evaluate did not write the figures, or refused the form."""
    try:
        report = FormReport.read(folder / f"{form}.json")
    except BadInput as fault:
        raise Unusable("evidence", str(fault)) from fault
    if report.refused is not None:
        raise Unusable("evidence", f"evaluate refused this form: {report.refused}")
    if report.form != form:
        raise Unusable(
            "evidence", f"{folder / f'{form}.json'} describes the form '{report.form}'; evaluate {form} again."
        )
    return report


def read_evidence(folder: Path, form: str) -> Evidence:
    """Return the form's figures and scores; raise NotRun where evaluate deferred, Unusable where they disagree."""
    report = read_report(folder, form)
    if report.deferred is not None:
        raise NotRun(report.deferred, exists=report.card is not None)
    path = folder / f"{form}.parquet"
    if report.card is None:
        raise Unusable("evidence", f"{folder / f'{form}.json'} holds no card; evaluate {form} again.")
    if not report.test_set:
        raise Unusable("images", f"{folder / f'{form}.json'} names no test set; evaluate {form} again.")
    try:
        images, scores = read_sealed_scores(path, report, report.card)
    except BadInput as fault:
        raise Unusable("evidence", str(fault)) from fault
    labels_N = images["label"].to_numpy().astype(np.int64)
    evidence = Evidence(report, report.card, images["id"], labels_N, images["checksum"], scores)
    _check_figures(evidence, path)
    return evidence


def read_sealed_scores(path: Path, report: FormReport, card: Card) -> tuple[pl.DataFrame, Scores]:
    """Return the images and scores of the file that the figures were written with, or raise BadInput.

    The checksum is compared before polars opens the file: a broken file can make polars panic, and a panic is not
    an Exception.
    """
    with suppress(OSError):  # read_scores reports the file that cannot be read
        if sha256(path) != report.scores_checksum:
            raise BadInput(
                f"{path} is not the file that its figures were written with; evaluate {report.form} again."
            )
    return read_scores(path, card.class_num)


def _check_figures(evidence: Evidence, path: Path) -> None:
    """Raise Unusable where the figures and the scores contradict each other, or are of two runs."""
    labels_N, report = evidence.labels_N, evidence.report
    if labels_N.min() < 0 or labels_N.max() >= evidence.card.class_num:
        raise Unusable("evidence", f"{path} has a label outside [0, {evidence.card.class_num}).")
    if report.first_still is not None and not 0 <= report.first_still < evidence.card.class_num:
        raise Unusable(
            "evidence",
            f"the figures name class {report.first_still} of {evidence.card.class_num} as constant; evaluate "
            f"{evidence.form} again.",
        )
    if report.images != len(labels_N):
        raise Unusable(
            "images",
            f"{path} has scores of {len(labels_N)} images, but the figures are of {report.images}.",
        )
    for name, figure in summary(evidence.predicted_N, labels_N, evidence.card.class_num).items():
        reported = getattr(report, name)
        if reported is None or not abs(reported - figure) <= SAME_FIGURE:  # a NaN is refused, too
            raise Unusable(
                "evidence",
                f"{path} gives a {name} of {figure:.6f}, its figures give {reported}; evaluate {report.form} "
                "again.",
            )
    contradicting = int((labels_N != labels_N[evidence.first_N]).sum())
    if contradicting:
        raise Unusable(
            "labels",
            f"{contradicting} images have the bytes of an image with another label. validate removes such images: "
            "split and evaluate again.",
        )
