"""Quantization-aware fine-tuning: it rounds as the int8 graph does, learns through rounding, proves its fold."""

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnxruntime import InferenceSession
from torch import nn

from steps.building.int8 import Int8Images, Int8Plan, write_int8
from steps.errors import Refused
from steps.graphs.exporting import to_onnx
from steps.models.architectures import create
from steps.models.normalised import Normalised, normalised
from steps.reparam.expand import MultiBranchConv, expand
from steps.reparam.fold import absorb_norms
from steps.reports.card import Card
from steps.training import qat
from steps.training.qat import QuantAware, folded_for_int8, rounded_activation, rounded_kernel
from tests.backends.tiny import HOW, NAMES, probe_images
from tests.reparam.networks import randomise

IMAGES = torch.from_numpy(probe_images(32))


def wide(block: str = "repvgg") -> Normalised:
    torch.manual_seed(0)
    network = create("repvgg_nano", len(NAMES), HOW.size)
    expand(network, block, init="standard")
    return normalised(randomise(network), HOW).eval()


def folded(network: Normalised) -> Normalised:
    return folded_for_int8(network, HOW, IMAGES[:4], seed=0).eval()


@torch.no_grad()
def test_its_roundings_go_the_way_of_the_int8_graph_s(tmp_path: Path) -> None:
    """Only one convolution and a head: more layers would amplify each rounding that goes the other way.

    One mean and std for all colours, and zero padding: otherwise the graph's first layer reads other numbers.
    """
    torch.manual_seed(0)
    how = HOW.model_copy(update={"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)})
    first = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, len(NAMES))]
    wide = normalised(randomise(nn.Sequential(*first, *head)), how).eval()
    network = folded_for_int8(wide, how, IMAGES[:4], seed=0).eval()
    card = Card(form="fuse", arch="x", class_num=4, class_names=NAMES, preprocessing=how, files={}, artifact="")
    onnx.save(to_onnx(network.network, card, 20), tmp_path / "model.onnx")
    drawn = Int8Images(IMAGES.numpy(), IMAGES.numpy())
    write_int8(tmp_path / "model.onnx", tmp_path / "int8.onnx", Int8Plan(drawn))
    (answered,) = InferenceSession(tmp_path / "int8.onnx").run(None, {"images_NHWC_u8": IMAGES.numpy()})
    exact = network(IMAGES).numpy()
    aware = QuantAware(network)(IMAGES).numpy()
    of_int8, of_training = (answered - exact).ravel(), (aware - exact).ravel()
    assert np.corrcoef(of_int8, of_training)[0, 1] > 0.6  # near 0 if a rounding's place or step differs


def test_a_rounded_tensor_has_255_values_a_kernel_129_and_each_kernel_a_range_of_its_own() -> None:
    values = torch.linspace(-3, 1, 10_001)
    rounded = rounded_activation(values)
    assert float((rounded - values).abs().max()) == pytest.approx(3 / 127 / 2, rel=1e-3)
    weight_OIKK = torch.randn(4, 3, 3, 3) * torch.tensor([1e-3, 1, 10, 0]).reshape(4, 1, 1, 1)
    error_O = (rounded_kernel(weight_OIKK) - weight_OIKK).abs().flatten(1).amax(1)
    assert bool((error_O <= weight_OIKK.abs().flatten(1).amax(1) / 64 / 2 * 1.001).all())
    assert len(set(rounded_kernel(torch.linspace(-1, 1, 10_001)[None])[0].tolist())) == 129


def test_gradients_pass_the_roundings() -> None:
    aware = QuantAware(folded(wide())).train()
    (aware(IMAGES) ** 2).mean().backward()
    for name, parameter in aware.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.abs().sum() > 0), name


def test_released_it_is_the_network_in_float_again() -> None:
    network = folded(wide())
    before = network(IMAGES)
    aware = QuantAware(network)
    assert not torch.equal(aware(IMAGES), before)
    assert torch.equal(aware.released()(IMAGES), before)


def test_the_folded_network_is_the_trained_one_and_that_one_stays() -> None:
    network = wide("qarepvgg")
    kept = copy.deepcopy(network.state_dict())
    plain = folded(network)
    torch.testing.assert_close(plain(IMAGES), network(IMAGES), rtol=1e-4, atol=1e-4)
    assert not [m for m in plain.modules() if isinstance(m, MultiBranchConv | nn.BatchNorm2d)]
    assert all(torch.equal(value, kept[key]) for key, value in network.state_dict().items())


def test_a_wrong_fold_is_not_fine_tuned(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(network: nn.Module, example: torch.Tensor) -> nn.Module:
        plain: nn.Module = right(network, example)
        plain.get_parameter("body.stage1.1.conv.weight").data[0] *= 1.01
        return plain

    right = absorb_norms
    monkeypatch.setattr(qat, "absorb_norms", wrong)
    with pytest.raises(Refused, match=r"not fine-tuned for int8\. Set train\.qat\.epochs to 0"):
        folded(wide())
