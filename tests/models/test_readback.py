"""A model is written only if it equals the network in memory: read back, the model must score images equally."""

from pathlib import Path

import numpy as np
import pytest

from steps.errors import Refused
from steps.models import readback
from steps.models.files import load_classifier
from steps.models.readback import lost_state
from tests.training.trainings import changed, make_workspace, run

FRESH = readback.fresh_process  # the real function, which a session fixture replaces
KINDS = {"RandomMask": "persistent=False .*mask", "ListedOrder": "keeps a state", "Annealed": "keeps a state"}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_workspace(tmp_path, monkeypatch)


@pytest.mark.parametrize(("kind", "cause"), KINDS.items())
def test_a_network_that_saving_changes_is_refused_with_the_cause(workspace: Path, kind: str, cause: str) -> None:
    params = changed(arch=f"tests.models.forgetful:{kind}", expand={"block": "none"}, lr=0.2, epochs=3)
    with pytest.raises(Refused, match=f"is not the network in memory.*{cause}"):
        run(workspace, params)


def test_a_network_without_such_a_state_is_written(workspace: Path) -> None:
    run(workspace, changed(arch="tests.models.forgetful:Forgetful", expand={"block": "none"}))
    assert (workspace / "out/model/model.safetensors").is_file()


def test_a_fresh_process_scores_as_this_one_and_tells_what_it_cannot_read(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = run(workspace, changed(epochs=1)) / "model"
    monkeypatch.setattr(readback, "fresh_process", FRESH)
    network, _ = load_classifier(model)
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    assert lost_state(model, network, [images]) is None
    (model / "card.json").unlink()
    assert "cannot be read again" in (lost_state(model, network, [images]) or "")
