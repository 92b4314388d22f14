"""Copies of an image are judged once: repeated names of one image add no evidence."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from steps.metrics import scores as kept_scores
from steps.parity.judge import judge
from steps.reports.verdict import Verdict
from steps.reports.verdict_page import page
from tests.parity.forms import Forms, labels_of

FORM = "onnxruntime-fp32"
CONTENTS = 20


def repeated(folder: Path, times: int) -> Forms:
    return Forms(folder, engines=(FORM,), images=CONTENTS * times, contents=CONTENTS)


def verdict_of(forms: Forms) -> Verdict:
    return judge(forms.folder, forms.terms())


def test_twenty_images_named_fifty_times_each_are_as_few_as_twenty(tmp_path: Path) -> None:
    often, once = verdict_of(repeated(tmp_path / "often", 50)), verdict_of(repeated(tmp_path / "once", 1))
    assert once.judgement == often.judgement == "inconclusive"
    assert often.refused == once.refused and "about 299 test images like these 20 would decide" in str(
        once.refused
    )
    assert [row.judgement for row in often.criteria] == [row.judgement for row in once.criteria]
    assert [form.top1 for form in often.forms] == [form.top1 for form in once.forms]
    assert (often.images, often.copies) == (CONTENTS, 49 * CONTENTS)
    assert "980 of 1000 test images are copies of other test images and were not counted." in page(often)
    assert "copies" not in page(once)


def test_figures_are_of_the_images_that_count(tmp_path: Path) -> None:
    """The first image, classified wrongly, fills half of the rows."""
    forms = Forms(tmp_path, engines=(FORM,), images=600)
    forms.contents = 300
    labels_N, rows = labels_of(600), np.where(np.arange(600) < 300, np.arange(600), 0)
    logits_NK = (np.eye(5)[(labels_N + (np.arange(600) == 0)) % 5] * 9).astype(np.float32)
    for form in forms.cards:
        forms.plant(form, logits_NK=logits_NK[rows], labels_N=labels_N[rows])
        relabelled(forms, form, [str(row) for row in rows])
    verdict = verdict_of(forms)
    assert verdict.judgement == "pass" and verdict.images == 300
    assert [form.top1 for form in verdict.forms[:-1]] == [299 / 300] * 4


def relabelled(forms: Forms, form: str, checksums: list[str]) -> None:
    forms.resealed(form, lambda table: table.with_columns(checksum=pl.Series(checksums)))


def test_one_image_named_often_is_not_called_constant(tmp_path: Path) -> None:
    forms = Forms(tmp_path, engines=(FORM,), images=300, contents=1)
    for form in forms.cards:
        forms.plant(form, logits_NK=forms.logits_NK, labels_N=np.zeros(300, np.int64))
    verdict = verdict_of(forms)
    assert (verdict.judgement, verdict.images) == ("inconclusive", 1)


def test_copies_with_different_labels_are_refused(tmp_path: Path) -> None:
    forms = repeated(tmp_path, 20)
    labels_N = labels_of(forms.images)
    labels_N[[100, 200]] = 3
    for form in forms.cards:
        forms.plant(form, labels_N=labels_N)
    message = str(verdict_of(forms).refused)
    assert message.startswith("train: labels: 2 images have the bytes of an image with another label")


@pytest.mark.parametrize("whole", [4, 1000])
def test_a_form_that_scores_a_copy_otherwise_is_refused_though_the_first_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int
) -> None:
    monkeypatch.setattr(kept_scores, "WHOLE", whole)
    monkeypatch.setattr(kept_scores, "HIGHEST", 3)
    forms = Forms(tmp_path, engines=(FORM,), images=700, contents=350)
    for form in forms.cards:
        forms.plant(form)
    assert verdict_of(forms).judgement == "pass"
    wrong = forms.logits_NK.copy()
    wrong[350] = np.roll(wrong[350], 1)
    forms.plant(FORM, logits_NK=wrong)
    message = str(verdict_of(forms).refused)
    assert message.startswith(
        f"{FORM}: copies: 1 of 350 copies have other scores than the image of the same bytes"
    )
    assert "'000350.png' and '000000.png'" in message


def test_images_of_the_same_names_and_other_bytes_are_not_compared(tmp_path: Path) -> None:
    forms = Forms(tmp_path, engines=(FORM,))
    relabelled(forms, FORM, [f"other {row}" for row in range(forms.images)])
    assert str(verdict_of(forms).refused).startswith(f"{FORM}: images: images of the same names have other bytes")
