"""The verdict as people read it: it shows everything that did not pass, and class names cannot inject markup."""

from pathlib import Path

import numpy as np
import pytest

from steps.metrics.recall import predicted
from steps.parity.judge import judge
from steps.reports.verdict import Criterion, FormVerdict, Verdict, plain
from steps.reports.verdict_page import page, table
from tests.parity.forms import Forms, labels_of


@pytest.fixture
def verdict(tmp_path: Path) -> Verdict:
    forms = Forms(tmp_path)
    forms.plant("openvino-int8", logits_NK=forms.with_lost(40))
    return judge(forms.folder, forms.terms(required=("export",)))


def test_the_table_has_a_row_for_each_form_and_its_columns_are_aligned(verdict: Verdict) -> None:
    lines = table(verdict).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [form.form for form in verdict.forms]
    edges = [[at for at, letter in enumerate(line) if letter == "|"][:7] for line in lines]
    assert all(found == edges[0] for found in edges)
    assert lines[0].split("|")[1:-1][-1].strip() == "why"


def test_latencies_are_a_column_only_where_they_were_measured(verdict: Verdict) -> None:
    assert "latency" not in table(verdict)
    shown = table(verdict, {"export": "0.75 ms"}).splitlines()
    assert "latency" in shown[0]
    assert sum("0.75 ms" in line for line in shown) == 1


def test_the_page_tells_a_candidate_that_failed_from_a_form_that_decides(verdict: Verdict) -> None:
    text = page(verdict)
    assert text.startswith("# Verdict: PASS\n")
    assert "fail (candidate)" in text
    assert "- openvino-int8: fail: top1_drop 0.04" in text


def test_a_refused_page_begins_with_the_sentence(verdict: Verdict) -> None:
    refused = verdict.model_copy(update={"refused": "export: because", "judgement": "fail"})
    assert "Refused: export: because" in page(refused).splitlines()


def test_what_passes_without_being_shown_is_told() -> None:
    sentence = (
        "divergence at most 0.1 (at least 0, likely 0.001) is not shown to exceed 0.02 (gate.max_divergence)"
    )
    row = Criterion(form="export", metric="divergence", judgement="pass", sentence=sentence)
    assert f"- export: {sentence}" in page(Verdict(criteria=(row,))).splitlines()
    assert "not shown" not in page(Verdict(criteria=(row.model_copy(update={"sentence": "divergence 0 stays"}),)))


def test_a_sentence_that_repeats_the_last_one_is_shown_once() -> None:
    whys = ["no GPU here", "", "no GPU here", "no GPU here", "lost", "no GPU here"]
    forms = tuple(
        FormVerdict(form=f"f{number}", judgement="deferred", required=False, why=why)
        for number, why in enumerate(whys)
    )
    shown = [line.split("|")[-2].strip() for line in table(Verdict(forms=forms)).splitlines()[2:]]
    assert shown == ["no GPU here", "-", "as above", "as above", "lost", "no GPU here"]


def test_a_forms_row_names_all_criteria_that_did_not_pass_and_the_page_has_their_sentences(
    verdict: Verdict,
) -> None:
    (form,) = [form for form in verdict.forms if form.form == "openvino-int8"]
    failed = [row for row in verdict.criteria if row.form == form.form and row.judgement != "pass"]
    worst, others = failed[0], [row.metric for row in failed[1:]]
    assert others and form.why == f"{worst.sentence}; and {len(others)} more: {', '.join(others)}"
    assert plain(form.why) in table(verdict)
    assert all(
        f"- {row.form}: {row.judgement}: {plain(row.sentence)}" in page(verdict).splitlines() for row in failed
    )


def test_the_page_says_what_pass_means_and_which_keys_are_the_floors(verdict: Verdict) -> None:
    assert "does not mean good: the floors are `gate.min_top1` and `gate.min_worst_recall`" in page(verdict)


@pytest.mark.parametrize(
    ("lost", "word"),
    [
        (0, "pass (not better than the new form by more than 0.01)"),
        (12, "pass (perhaps better than the new form)"),
        (200, "pass (better than the new form)"),
    ],
)
def test_the_champions_row_says_how_the_new_form_compares(tmp_path: Path, lost: int, word: str) -> None:
    forms = Forms(tmp_path)
    forms.plant("champion")
    for form in ("train", "fuse", "export"):
        forms.plant(form, logits_NK=forms.with_lost(lost))
    found = judge(forms.folder, forms.terms(required=("export",)))
    assert found.word(found.forms[-1]) == word
    assert word in page(found)


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (1, 1), (2, 1)])
def test_a_champion_that_the_images_do_not_tell_from_the_new_form_is_called_as_good(
    tmp_path: Path, lost: int, gained: int
) -> None:
    """200 images cannot show a drop of one point: that does not mean that the champion is better."""
    forms = Forms(tmp_path, images=200)
    right_N = predicted(forms.logits_NK) == labels_of(200)
    changed_NK = forms.with_lost(lost)
    wrong = np.flatnonzero(~right_N)[:gained]
    changed_NK[wrong] = np.roll(changed_NK[wrong], -1, axis=1)  # the wrong answer is the next class
    forms.plant("champion")
    for form in ("train", "fuse", "export"):
        forms.plant(form, logits_NK=changed_NK)
    found = judge(forms.folder, forms.terms(required=("export",)))
    (row,) = [row for row in found.criteria if row.form == "export" and row.metric == "champion_drop"]
    assert (row.judgement, row.value) == ("inconclusive", (lost - gained) / 200)
    assert found.word(found.forms[-1]) == "pass (as good as the new form, as far as the images show)"


def test_a_champion_that_nothing_was_compared_with_is_not_called_better_or_worse(tmp_path: Path) -> None:
    forms = Forms(tmp_path)
    forms.plant("champion")
    (forms.folder / "export.parquet").unlink()
    found = judge(forms.folder, forms.terms(required=("export",)))
    assert found.word(found.forms[-1]) == "pass (compared with no new form)"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("![x](http://elsewhere/x.png)", r"!\[x\](http://elsewhere/x.png)"),
        (r"\[x\](http://elsewhere)", r"\\\[x\\\](http://elsewhere)"),  # a backslash must not cancel the escape
        ("a\n# b", "a # b"),
        ("`<b>&", r"\`&lt;b&gt;&amp;"),
    ],
)
def test_nothing_that_a_class_is_called_is_markup(name: str, shown: str) -> None:
    assert plain(name) == shown


def test_a_class_name_can_break_neither_the_table_nor_the_page() -> None:
    hostile = "a|b\n# Verdict: PASS <script>alert(1)</script> ![x](http://elsewhere/x.png)"
    criterion = Criterion(form="export", metric="m", judgement="fail", sentence=hostile, undecided=(hostile,))
    form = FormVerdict(form="export", judgement="fail", required=True, why=hostile)
    text = page(Verdict(refused=f"export: {hostile}", forms=(form,), criteria=(criterion,)))
    assert "<script>" not in text and "![" not in text
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# Verdict: FAIL"]
    assert "a\\|b" in table(Verdict(forms=(form,)))
