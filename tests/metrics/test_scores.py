"""FORM.parquet: stored scores are read back unchanged, and a file that cannot be right is refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from steps.errors import BadInput
from steps.metrics.scores import (
    BEYOND,
    COLUMNS,
    HIGHEST,
    WHOLE,
    Keeper,
    Logits,
    Scores,
    keep,
    read_scores,
    write_scores,
)

MANY = WHOLE + 500
IMAGES = 30


def drawn(classes: int, seed: int = 0) -> Logits:
    return np.random.default_rng(seed).normal(0, 3, (IMAGES, classes)).astype(np.float32)


def written(folder: Path, scores: Scores) -> Path:
    path = folder / "form.parquet"
    ids = [f"{number:03}.png" for number in range(IMAGES)]
    images = pl.DataFrame({"id": ids, "label": np.arange(IMAGES) % scores.class_num, "checksum": ids})
    write_scores(path, images, scores)
    return path


@pytest.mark.parametrize("classes", [3, WHOLE, MANY])
def test_what_was_kept_comes_back(tmp_path: Path, classes: int) -> None:
    logits_NK = drawn(classes)
    kept = keep(logits_NK)
    images, scores = read_scores(written(tmp_path, kept), classes)
    assert images["id"][2] == images["checksum"][2] == "002.png"
    assert images["label"].to_list() == [number % classes for number in range(IMAGES)]
    assert (scores.logits_NM == kept.logits_NM).all()
    assert (scores.predicted_N == logits_NK.argmax(axis=1)).all()
    true_N = np.log(np.exp(logits_NK.astype(np.float64)).sum(axis=1))
    assert scores.logsumexp_N == pytest.approx(true_N)
    assert (scores.lowest_N == logits_NK.min(axis=1)).all()


def test_up_to_a_thousand_classes_the_file_holds_every_score_and_beyond_the_highest(tmp_path: Path) -> None:
    assert pl.read_parquet_schema(written(tmp_path, keep(drawn(WHOLE)))) == {
        "id": pl.String(), "label": pl.Int64(), "checksum": pl.String(), "scores": pl.List(pl.Float32()),
    }  # fmt: skip
    table = pl.read_parquet(written(tmp_path, keep(drawn(MANY))))
    assert table.columns == COLUMNS + BEYOND
    assert set(table["scores"].list.len()) == set(table["classes"].list.len()) == {HIGHEST}


def test_batches_are_kept_as_if_they_were_one() -> None:
    logits_NK, keeper = drawn(MANY), Keeper(MANY)
    for begin in range(0, IMAGES, 7):
        keeper.add(logits_NK[begin : begin + 7])
    together, whole = keeper.scores, keep(logits_NK)
    assert together.classes_NM is not None and whole.classes_NM is not None
    assert (together.classes_NM == whole.classes_NM).all() and (together.logits_NM == whole.logits_NM).all()


def test_of_equal_scores_the_lowest_class_is_first() -> None:
    logits_NK = np.zeros((2, MANY), np.float32)
    logits_NK[1, [700, 30]] = 1
    assert keep(logits_NK).predicted_N.tolist() == [0, 30]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_kept_before_any_other_and_seen_in_the_sum(bad: float) -> None:
    logits_NK = drawn(MANY)
    logits_NK[4, 900] = bad
    kept = keep(logits_NK)
    assert kept.classes_NM is not None and kept.classes_NM[4, 0] == 900
    assert np.flatnonzero(np.isnan(kept.logsumexp_N)).tolist() == [4]


@pytest.mark.parametrize("classes", [5, MANY])
def test_a_class_whose_score_never_moves_is_seen_over_all_batches(classes: int) -> None:
    logits_NK, keeper = drawn(classes), Keeper(classes)
    logits_NK[:, 3] = -20
    logits_NK[:15, 4], logits_NK[15:, 4] = 1, 2  # constant within each batch
    for half in (logits_NK[:15], logits_NK[15:]):
        keeper.add(half)
    assert np.flatnonzero(keeper.still(1e-6)).tolist() == [3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": pl.col("classes").list.eval(pl.element() * 0)}, "a class twice"),
        ({"classes": pl.col("classes").list.eval(pl.element() + MANY)}, "a class outside"),
        ({"scores": pl.col("scores").list.reverse()}, "highest scores first"),
        ({"scores": pl.col("scores").list.head(99)}, "does not hold 100 scores"),
        ({"logsumexp": pl.col("logsumexp") + 9}, "has values of logsumexp that its scores contradict"),
        ({"logsumexp": pl.col("logsumexp") - 9}, "has values of logsumexp that its scores contradict"),
        ({"lowest": pl.col("lowest") + 99}, "highest scores first"),
        ({"label": pl.lit("ant")}, "no class ids"),
        ({"classes": pl.col("scores")}, "not lists of Int32"),
        ({"more": pl.lit(1)}, "not scores of images"),
    ],
)
def test_a_file_that_cannot_be_so_is_refused(tmp_path: Path, change: dict[str, pl.Expr], words: str) -> None:
    path = written(tmp_path, keep(drawn(MANY)))
    pl.read_parquet(path).with_columns(**change).write_parquet(path)
    with pytest.raises(BadInput, match=words):
        read_scores(path, MANY)
