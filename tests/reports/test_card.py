"""card.json: contradictory entries are refused with a message, before any reader depends on them."""

import json
from pathlib import Path
from typing import Any

import pytest

from steps.errors import BadInput
from steps.reports.card import Card
from tests.parity.forms import card_of


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"class_num": 6}, "class_num is 6, but there are 5 class_names"),
        ({"takes": "any"}, "must name the longest side in max_side"),
        ({"takes": "any", "max_side": 0}, "must name the longest side in max_side"),
        ({"device": {"kind": "cpu", "threads": 0}}, "device.threads: Input should be greater than or equal to 1"),
        ({"device": {"kind": "cpu", "threads": -5}}, "device.threads"),
    ],
)
def test_a_card_that_does_not_hang_together_is_refused(tmp_path: Path, edit: dict[str, Any], message: str) -> None:
    path = tmp_path / "card.json"
    whole = card_of("onnxruntime-fp32", "export").model_dump(mode="json")
    path.write_text(json.dumps(whole))
    assert Card.read(path).class_num == 5
    path.write_text(json.dumps(whole | edit))
    with pytest.raises(BadInput, match=f"card.json is no Card: .*{message}"):
        Card.read(path)
