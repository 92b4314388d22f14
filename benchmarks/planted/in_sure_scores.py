"""Faults in the scores of a network so sure of its answers that its softmax shows none of them."""

from collections.abc import Callable

import numpy as np
import polars as pl

from benchmarks.planted.in_evaluation import FORM
from benchmarks.planted.mutant import Mutant
from benchmarks.planted.places import Place
from steps.engines.contract import Logits


def _sure(change: Callable[[Logits], Logits]) -> Mutant:
    def changed(scores: pl.DataFrame) -> pl.DataFrame:
        wrong_NK = change(np.array(scores["scores"].to_list(), np.float32))
        return scores.with_columns(scores=pl.Series(wrong_NK).cast(pl.List(pl.Float32)))

    return Mutant(FORM, Place("sure scores", FORM), changed, ("gate",), "logit_difference")


def _noisy(logits_NK: Logits) -> Logits:
    return logits_NK + np.random.default_rng(0).normal(0, 3, logits_NK.shape).astype(np.float32)


def _answers_alone(logits_NK: Logits) -> Logits:
    return np.where(logits_NK == logits_NK.max(axis=1, keepdims=True), 9, 0).astype(np.float32)


SURE: dict[str, Mutant] = {
    "sure scores halved": _sure(lambda logits_NK: logits_NK * np.float32(0.5)),
    "sure scores doubled": _sure(lambda logits_NK: logits_NK * np.float32(2)),
    "sure scores with noise": _sure(_noisy),
    "sure scores cut off at 20": _sure(lambda logits_NK: np.minimum(logits_NK, np.float32(20))),
    "sure answers alone": _sure(_answers_alone),
}
