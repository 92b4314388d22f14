"""gate: the release in production must be comparable, and must not be better than its replacement."""

from pathlib import Path

import numpy as np
import pytest

from tests.gated import judged, of, refusal
from tests.parity.forms import NAMES, Forms, Logits, labels_of


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def forms(tmp_path: Path) -> Forms:
    return Forms(tmp_path / "evaluate")


def better_than(forms: Forms) -> Logits:
    right_NK = np.eye(len(NAMES))[labels_of(forms.images)]
    return (right_NK * 5 + forms.logits_NK * 0.1).astype(np.float32)


def test_a_champion_that_is_better_is_not_replaced(forms: Forms) -> None:
    forms.plant("champion", logits_NK=better_than(forms), card={"form": "export"})
    sentence = refusal(forms)
    assert sentence.startswith("export: champion_drop") and "(gate.max_champion_drop)" in sentence


@pytest.mark.parametrize(("required", "judgement"), [(True, "fail"), (False, "pass")])
def test_an_engine_that_loses_a_little_of_a_little_does_not_replace_a_better_champion(
    tmp_path: Path, required: bool, judgement: str
) -> None:
    """Export is 8 of 1,000 below the champion, within the bound; the engine is 9 below export: too much."""
    forms = Forms(tmp_path / "evaluate", engines=("onnxruntime-fp32",), images=20_000)
    forms.plant("champion", card={"form": "export"})
    for form in ("train", "fuse", "export"):
        forms.plant(form, logits_NK=forms.with_lost(160))
    forms.plant("onnxruntime-fp32", logits_NK=forms.with_lost(340))
    names = ("fuse", "export", *(("onnxruntime-fp32",) if required else ()))
    limits = {
        "max_largest_score_difference": 1,
        "max_divergence": 1,
        "max_logit_difference": 4,
        "max_class_logit_difference": 4,
    }
    verdict = judged(forms, names, min_class_agreement=0, **limits)
    assert verdict.judgement == judgement
    broken = [(row.form, row.metric) for row in verdict.criteria if row.judgement == "fail"]
    assert broken == [("onnxruntime-fp32", "champion_drop")]
    better = "better than the new form" if required else "not better than the new form by more than 0.01"
    assert verdict.word(of(verdict, "champion")) == f"pass ({better})"


def test_a_champion_that_is_as_good_is_replaced(forms: Forms) -> None:
    forms.plant("champion", card={"form": "export"})
    verdict = judged(forms)
    assert verdict.judgement == "pass"
    assert of(verdict, "champion").judgement == "pass"


def test_a_champion_that_cannot_be_compared_stops_the_release_unless_params_skip_it(forms: Forms) -> None:
    forms.plant(
        "champion", card={"form": "export"}, deferred="the images have 6 classes and the model 5", top1=None
    )
    assert refusal(forms) == (
        "champion: the images have 6 classes and the model 5. gate.champion: skip ships without the comparison."
    )
    verdict = judged(forms, champion="skip")
    assert verdict.judgement == "pass"
    assert (of(verdict, "champion").judgement, of(verdict, "champion").required) == ("deferred", False)


def test_a_better_champion_stops_nothing_where_params_skip_it(forms: Forms) -> None:
    forms.plant("champion", logits_NK=better_than(forms), card={"form": "export"})
    assert judged(forms, champion="skip").judgement == "pass"


def test_a_champion_on_other_images_stops_the_release(forms: Forms) -> None:
    forms.plant("champion", card={"form": "export"}, test_set="c" * 64)
    assert refusal(forms).startswith("champion: images: champion was evaluated on the test set cccc")
