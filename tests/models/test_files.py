"""An artifact describes itself: the same bytes load to the same function, and no other file is accepted."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from steps.errors import BadInput
from steps.models.files import ProbeImages, load_classifier, load_model, load_probes, rebuild, save_model
from steps.models.normalised import normalised
from steps.reparam.branches import BLOCKS
from steps.reparam.expand import MODES, Mode
from steps.reparam.fold import absorb_norms, fold
from steps.reports.artifact import write_card
from steps.reports.card import Card
from tests.models.artifacts import HOW, SIZE, probes, write_trained


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [None, *BLOCKS])
def test_a_saved_network_loads_to_the_same_function(tmp_path: Path, block: str | None, mode: Mode) -> None:
    card = write_trained(tmp_path / "model", block, mode=mode)
    first, again = load_model(tmp_path / "model")[0], load_model(tmp_path / "model")[0]
    image = torch.randn(2, 3, SIZE, SIZE)
    assert not first.training
    assert torch.equal(first(image), again(image))
    assert Card.read(tmp_path / "model" / "card.json") == card
    assert set(card.files) == {"model.safetensors", "probes.npz"}


def test_a_fused_network_loads_strictly_into_its_rebuilt_structure(tmp_path: Path) -> None:
    card = write_trained(tmp_path / "trained")
    plain = absorb_norms(fold(load_model(tmp_path / "trained")[0]))
    fused = card.model_copy(update={"form": "fuse", "fused": True, "expansion": None})
    save_model(tmp_path / "fused", plain, fused, probes())
    loaded, _ = load_model(tmp_path / "fused")
    image = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(loaded(image), plain(image))


def test_weights_of_one_mode_do_not_load_as_the_other(tmp_path: Path) -> None:
    card = write_trained(tmp_path / "model", mode="online")
    assert card.expansion is not None
    other = card.model_copy(update={"expansion": card.expansion.model_copy(update={"mode": "branch"})})
    write_card(tmp_path / "model", other)
    with pytest.raises(BadInput, match=r"does not fit the repvgg_nano of its card"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("mode", ["sideways", ""])
def test_a_card_with_an_unknown_mode_is_refused(tmp_path: Path, mode: str) -> None:
    card = write_trained(tmp_path / "model")
    assert card.expansion is not None
    write_card(
        tmp_path / "model",
        card.model_copy(update={"expansion": card.expansion.model_copy(update={"mode": mode})}),
    )
    with pytest.raises(BadInput, match=f"'{mode}' is no mode of expand; the modes are branch, online"):
        load_model(tmp_path / "model")


def test_equal_networks_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_trained(tmp_path / name)
    for file in ("model.safetensors", "card.json", "probes.npz"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_probes_come_back_as_they_were(tmp_path: Path) -> None:
    write_trained(tmp_path / "model")
    loaded, given = load_probes(tmp_path / "model"), probes()
    assert np.array_equal(loaded.images_NHWC_u8, given.images_NHWC_u8)
    assert (loaded.names, loaded.labels) == (given.names, given.labels)


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    write_trained(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(BadInput, match="checksum"):
        load_model(tmp_path / "model")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_trained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"model\.safetensors is listed"):
        load_model(tmp_path / "model")


def test_a_pickle_under_the_right_name_is_not_read(tmp_path: Path) -> None:
    card = write_trained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(pickle.dumps({"weights": 1}))
    write_card(tmp_path / "model", card)
    with pytest.raises(BadInput, match="pickles are not read"):
        load_model(tmp_path / "model")


def test_a_pickle_among_the_probes_is_not_read(tmp_path: Path) -> None:
    card = write_trained(tmp_path / "model")
    np.savez(tmp_path / "model" / "probes.npz", images_NHWC_u8=np.array([{}], dtype=object))
    write_card(tmp_path / "model", card)
    with pytest.raises(BadInput, match="is missing or has no probe images"):
        load_probes(tmp_path / "model")


def test_keys_must_be_those_of_the_architecture(tmp_path: Path) -> None:
    card = write_trained(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    tensors["stranger"] = tensors.pop("head.bias")
    tensors["head.weight"] = tensors["head.weight"][:-1].clone()
    save_file(tensors, weights)
    write_card(tmp_path / "model", card)
    with pytest.raises(BadInput, match=r"1 missing \(head\.bias.*1 unexpected \(stranger.*1 of another shape"):
        load_model(tmp_path / "model")


def test_a_card_of_another_form_is_no_pytorch_model(tmp_path: Path) -> None:
    card = write_trained(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    write_card(tmp_path / "model", card.model_copy(update={"form": "export"}))
    with pytest.raises(BadInput, match="is no PyTorch model"):
        load_model(tmp_path / "model")


def test_a_card_that_lists_a_file_elsewhere_is_refused(tmp_path: Path) -> None:
    write_trained(tmp_path / "model")
    content = json.loads((tmp_path / "model" / "card.json").read_text())
    content["files"] = {"../secret": "0" * 64}
    (tmp_path / "model" / "card.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match="not there"):
        load_model(tmp_path / "model")


def test_a_classifier_normalises_inside(tmp_path: Path) -> None:
    card = write_trained(tmp_path / "model")
    classifier, _ = load_classifier(tmp_path / "model")
    images = torch.from_numpy(probes().images_NHWC_u8)
    mean, std = torch.tensor(HOW.mean), torch.tensor(HOW.std)
    by_hand = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(classifier.normalise(images), by_hand)
    logits = classifier(images)
    assert logits.dtype == torch.float32 and logits.shape == (3, card.class_num)
    torch.testing.assert_close(logits, load_model(tmp_path / "model")[0](by_hand), rtol=1e-4, atol=1e-4)


def test_normalisation_adds_no_keys(tmp_path: Path) -> None:
    network = rebuild(write_trained(tmp_path / "model"))
    keys = {key.removeprefix("network.") for key in normalised(network, HOW).state_dict()}
    assert keys == set(network.state_dict())


def test_probe_images_keep_their_type() -> None:
    assert isinstance(probes(), ProbeImages) and probes().images_NHWC_u8.dtype == np.uint8
