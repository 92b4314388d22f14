"""The output of evaluate is trusted only if its parts match: none of these files passes or causes a crash."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from steps.localising.worst_images import WorstImage, worst_images
from steps.metrics import scores as kept_scores
from steps.parity.judge import judge
from steps.reports.evaluate import FormReport
from tests.parity.forms import Forms

FORM = "onnxruntime-fp32"
Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture
def forms(tmp_path: Path) -> Forms:
    return Forms(tmp_path, engines=(FORM,))


def refusal(forms: Forms) -> str:
    sentence = judge(forms.folder, forms.terms()).refused
    assert sentence is not None, "the gate let it pass"
    return sentence


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.with_columns(id=pl.int_range(pl.len())), "ids that are no names of images"),
        (lambda table: table.with_columns(id=pl.lit(None, pl.String)), "ids that are no names of images"),
        (lambda table: table.drop("checksum"), "not scores of images"),
        (lambda table: table.with_columns(checksum=pl.lit(None, pl.String)), "that are no checksums of images"),
        (lambda table: table.with_columns(label=pl.lit(-1)), "a label outside [0, 5)"),
        (lambda table: table.with_columns(pl.col("scores").cast(pl.List(pl.Float64))), "List(Float64)"),
        (lambda table: table.head(0), "has 0 rows"),
        (lambda table: table.drop("label"), "not scores of images"),
    ],
)
def test_a_file_that_evaluate_does_not_write_is_refused_by_the_name_of_its_fault(
    forms: Forms, change: Change, words: str
) -> None:
    forms.resealed(FORM, change)
    sentence = refusal(forms)
    assert sentence.startswith(f"{FORM}: evidence: ") and words in sentence


def test_the_scores_of_another_form_are_not_those_that_the_figures_were_written_with(forms: Forms) -> None:
    """The averages of both forms are equal, so that only the file itself shows the difference."""
    shutil.copy(forms.folder / "train.parquet", forms.folder / f"{FORM}.parquet")
    message = refusal(forms)
    assert (
        message.startswith(f"{FORM}: evidence: ") and "not the file that its figures were written with" in message
    )


def test_a_broken_file_is_not_even_opened(forms: Forms, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened, read_parquet = forms.folder / f"{FORM}.parquet", list[Path](), pl.read_parquet

    def read(source: Path, glob: bool) -> pl.DataFrame:
        opened.append(source)
        return read_parquet(source, glob=glob)

    monkeypatch.setattr(pl, "read_parquet", read)
    path.write_bytes(path.read_bytes()[:-9])
    assert "not the file that its figures were written with" in refusal(forms)
    assert opened and path not in opened
    path.unlink()
    assert f"{FORM}: evidence: {path} cannot be read: No such file" in refusal(forms)


def test_no_image_is_shown_for_scores_that_are_not_those_of_the_figures(forms: Forms) -> None:
    shown = worst_images(forms.folder, FORM, "export", ["000000.png"], 1)
    assert shown[0].difference is not None
    shutil.copy(forms.folder / "train.parquet", forms.folder / f"{FORM}.parquet")
    assert worst_images(forms.folder, FORM, "export", ["000000.png"], 1) == [WorstImage("000000.png")]


@pytest.mark.parametrize("first", [-1, 5])
def test_figures_that_name_a_class_which_there_is_not_are_refused(
    forms: Forms, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    monkeypatch.setattr(kept_scores, "WHOLE", 4)
    monkeypatch.setattr(kept_scores, "HIGHEST", 3)
    for form in forms.cards:
        forms.plant(form)
    forms.plant(FORM, still=1, first_still=first)
    assert f"{FORM}: evidence: the figures name class {first} of 5 as constant" in refusal(forms)


def test_a_form_that_names_no_test_set_is_refused_though_no_other_does_either(forms: Forms) -> None:
    for form in forms.cards:
        forms.plant(form, test_set="")
    assert refusal(forms).startswith("train: images: ") and "names no test set" in refusal(forms)


@pytest.mark.parametrize("figure", ["top1", "macro_recall", "worst_recall"])
def test_a_figure_that_is_no_number_is_not_that_of_the_scores(forms: Forms, figure: str) -> None:
    path = forms.folder / f"{FORM}.json"
    message = getattr(FormReport.read(path), figure)
    path.write_text(path.read_text().replace(f'"{figure}": {message}', f'"{figure}": NaN'))
    assert "NaN" in path.read_text()
    assert f"gives a {figure} of" in refusal(forms)


def test_a_test_set_of_one_or_two_images_decides_nothing_and_is_no_crash(tmp_path: Path) -> None:
    for images in (1, 2):
        verdict = judge(
            (forms := Forms(tmp_path / str(images), engines=(FORM,), images=images)).folder, forms.terms()
        )
        assert verdict.judgement == "inconclusive"


@pytest.mark.parametrize("highest", [2, 3])
def test_a_lowest_score_that_the_sum_has_no_room_for_is_refused(
    forms: Forms, monkeypatch: pytest.MonkeyPatch, highest: int
) -> None:
    """Bounds on unstored scores use the lowest score: a value above the true one makes them too narrow."""
    monkeypatch.setattr(kept_scores, "WHOLE", 4)
    monkeypatch.setattr(kept_scores, "HIGHEST", highest)
    for form in forms.cards:
        forms.plant(form, logits_NK=forms.logits_NK)
    assert judge(forms.folder, forms.terms()).judgement in ("pass", "inconclusive")
    forms.resealed(FORM, lambda table: table.with_columns(lowest=pl.col("scores").list.last()))
    assert "has values of logsumexp that its scores contradict" in refusal(forms)
