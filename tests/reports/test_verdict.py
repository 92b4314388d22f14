"""A verdict tells where a refusal is worth looking into, and by a checksum which model it judged."""

import pytest

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
