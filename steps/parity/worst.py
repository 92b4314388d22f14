"""The test images on which two forms differ most, from the scores that evaluate left.

Letters: N images, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from steps.errors import BadInput

TOP = 3
Top = tuple[tuple[int, float], ...]  # (class id, share of the softmax), the highest first


@dataclass(frozen=True)
class WorstImage:
    """An image's name, and what both forms said of it; nothing where the scores cannot be compared."""

    name: str
    difference: float | None = None
    of_reference: Top = ()
    of_form: Top = ()


def worst_images(evaluate: Path, form: str, reference: str, names: Sequence[str], count: int) -> list[WorstImage]:
    """Return `count` of the images in both files, the largest difference of a softmax first.

    Where a file is missing or holds no scores of all classes, as where the gate refused for just that, the first
    of `names` are taken: any image shows a fault of a network.
    """
    try:
        return _worst(_scores(evaluate, reference), _scores(evaluate, form), count)
    except BadInput:
        return [WorstImage(name) for name in names[:count]]


def _worst(reference: pl.DataFrame, form: pl.DataFrame, count: int) -> list[WorstImage]:
    both = reference.join(form, on="id", how="inner", suffix="_form", maintain_order="left")
    if both.is_empty():
        raise BadInput("no image is in both.")
    one_NK, other_NK = _softmax(both["scores"]), _softmax(both["scores_form"])
    if one_NK.shape != other_NK.shape:
        raise BadInput("they have another number of classes.")
    difference_N = np.nan_to_num(np.abs(one_NK - other_NK).max(axis=1), nan=np.inf)
    order_N = np.argsort(-difference_N, kind="stable")[:count]
    return [
        WorstImage(both["id"][int(row)], float(difference_N[row]), _top(one_NK[row]), _top(other_NK[row]))
        for row in order_N
    ]


def _scores(evaluate: Path, form: str) -> pl.DataFrame:
    """Return id and scores, where each image has a score of every class."""
    path = evaluate / f"{form}.parquet"
    try:
        scores = pl.read_parquet(path, columns=["id", "scores"], glob=False)
    except (OSError, pl.exceptions.PolarsError) as fault:
        raise BadInput(f"{path} cannot be read: {fault}") from fault
    if isinstance(scores["scores"].dtype, pl.Array):
        scores = scores.with_columns(pl.col("scores").arr.to_list())
    if not isinstance(scores["scores"].dtype, pl.List) or scores["scores"].list.len().n_unique() != 1:
        raise BadInput(f"{path} holds no scores of all classes.")
    return scores.unique("id", keep="first", maintain_order=True)


def _softmax(logits: pl.Series) -> npt.NDArray[np.float64]:
    logits_NK = np.asarray(logits.explode().to_numpy(), np.float64).reshape(len(logits), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        powers_NK = np.exp(logits_NK - logits_NK.max(axis=1, keepdims=True))
        shares_NK: npt.NDArray[np.float64] = powers_NK / powers_NK.sum(axis=1, keepdims=True)
    return shares_NK


def _top(shares_K: npt.NDArray[np.float64]) -> Top:
    order_K = np.argsort(-shares_K, kind="stable")[:TOP]
    return tuple((int(number), float(shares_K[number])) for number in order_K)
