"""A verdict names the refused form that localise should examine; a checksum identifies the judged model."""

import pytest

from steps.parity.criteria import PAIRED
from steps.reports.card import Card
from steps.reports.verdict import Criterion, Judgement, Verdict, card_checksum, to_localise
from tests.parity.forms import card_of

ENGINE = "openvino-fp32"


@pytest.mark.parametrize(
    ("form", "metric", "judgement", "found"),
    [
        (ENGINE, "top1_drop", "fail", ENGINE),
        ("fuse", "agreement", "fail", "fuse"),
        (ENGINE, "top1_drop", "inconclusive", None),
        (ENGINE, "run", "deferred", None),
        *((ENGINE, check, "fail", None) for check in ("evidence", "images", "labels", "classes", "chain", "run")),
        ("train", "top1", "fail", None),
        ("champion", "top1_drop", "fail", None),
    ],
)
def test_only_a_form_that_computes_otherwise_is_looked_into(
    form: str, metric: str, judgement: Judgement, found: str | None
) -> None:
    row = Criterion(form=form, metric=metric, judgement=judgement, sentence="")
    assert to_localise(Verdict(refused=f"{form}: no.", criteria=(row,))) == found


SHARES, OTHERS = ("agreement", "class_agreement"), ("top1_drop", "recall_drop")


def undecided(metric: str, value: float, bound: float, at_least: float | None = None) -> str | None:
    row = Criterion(
        form=ENGINE,
        metric=metric,
        value=value,
        bound=bound,
        at_least=at_least,
        judgement="inconclusive",
        sentence="",
    )
    return to_localise(Verdict(refused=f"{ENGINE}: no.", criteria=(row,)))


@pytest.mark.parametrize("metric", [rule.__name__ for rule in PAIRED.values()])
def test_outputs_beyond_a_bound_of_closeness_are_looked_into_though_no_others_are_shown_to_be(metric: str) -> None:
    beyond, within = (0.5, 0.7) if metric in SHARES else (0.7, 0.5)
    assert undecided(metric, beyond, 0.6) == (None if metric in OTHERS else ENGINE)
    assert undecided(metric, within, 0.6) is None


@pytest.mark.parametrize("metric", ["top1", "lowest_recall", "champion_drop"])
def test_too_few_images_for_a_floor_or_a_drop_are_nothing_to_look_into(metric: str) -> None:
    assert undecided(metric, 0.5, 0.6) is None and undecided(metric, 0.7, 0.6) is None


@pytest.mark.parametrize(("at_least", "found"), [(0.5, None), (0.65, ENGINE)])
def test_what_scores_that_were_not_kept_may_hold_is_nothing_to_look_into(
    at_least: float, found: str | None
) -> None:
    assert undecided("divergence", 0.7, 0.6, at_least) == found


def test_the_failure_of_another_form_is_not_the_refused_one_s() -> None:
    row = Criterion(form="fuse", metric="agreement", judgement="fail", sentence="")
    assert to_localise(Verdict(refused=f"{ENGINE}: no.", criteria=(row,))) is None
    assert to_localise(Verdict(criteria=(row,))) is None


def test_the_checksum_of_a_card_outlives_keys_that_cards_learn_later() -> None:
    class LaterCard(Card):
        learnt_later: str | None = None

    card = card_of("onnxruntime-fp32", "export")
    assert card_checksum(LaterCard(**card.model_dump())) == card_checksum(card)
    assert card_checksum(card.model_copy(update={"fused": not card.fused})) != card_checksum(card)
