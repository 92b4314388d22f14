"""Weights from other sources: counted, reported, and refused if they belong to another network."""

import json
import pickle
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from steps.errors import BadInput, Refused
from steps.models.architectures import create
from steps.reports.train import TrainReport
from steps.weights.loading import load_weights, read_weights
from steps.weights.own_preprocessing import StatedPreprocessing
from steps.weights.preprocessing import resolve_preprocessing
from tests.models.artifacts import Own


def saved(tmp_path: Path, content: Any, name: str = "weights.pt") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def state(class_num: int = 4, seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return dict(Own(class_num).state_dict())


def test_a_whole_state_dict_covers_everything(tmp_path: Path) -> None:
    network, wanted = Own(4), state()
    coverage = load_weights(network, saved(tmp_path, wanted), 1.0)
    assert coverage.coverage == 1.0 and not coverage.head_replaced
    assert all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("under", ["state_dict", "model"])
def test_a_checkpoint_is_opened_and_wrappers_are_taken_off(tmp_path: Path, under: str) -> None:
    wrapped = {f"module.{key}": value for key, value in state().items()}
    coverage = load_weights(Own(4), saved(tmp_path, {under: wrapped, "epoch": 3}), 1.0)
    assert coverage.coverage == 1.0


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.module.", "module._orig_mod.", "model.", "backbone.", "model.module."]
)
def test_wrappers_are_taken_off_in_any_order(tmp_path: Path, prefix: str) -> None:
    wrapped: dict[str, Any] = {f"{prefix}{key}": value for key, value in state().items()}
    inside = {"model": {"state_dict": {**wrapped, "n_averaged": torch.tensor(3)}}}
    assert load_weights(Own(4), saved(tmp_path, inside), 1.0).coverage == 1.0


def test_names_of_the_networks_own_are_no_wrapper(tmp_path: Path) -> None:
    network = nn.Sequential(OrderedDict(model=Own(4)))
    wanted = nn.Sequential(OrderedDict(model=Own(4))).state_dict()
    assert load_weights(network, saved(tmp_path, dict(wanted)), 1.0).coverage == 1.0


def test_safetensors_files_are_read(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights.safetensors")
    assert load_weights(Own(4), tmp_path / "weights.safetensors", 1.0).coverage == 1.0


@pytest.mark.parametrize("headless", ["another class number", "no last layer"])
def test_a_head_that_does_not_fit_starts_fresh_and_is_said(
    tmp_path: Path, headless: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = state(class_num=9)
    if headless == "no last layer":
        tensors = {key: value for key, value in tensors.items() if not key.startswith("head.")}
    network = Own(4)
    before = network.head.weight.clone()
    coverage = load_weights(network, saved(tmp_path, tensors), 1.0)
    assert coverage.coverage == 1.0 and coverage.head_replaced
    assert torch.equal(network.head.weight, before)
    assert torch.equal(network.conv.weight, tensors["conv.weight"])
    assert "the last layer (head) starts with new weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("left_out", "classes", "message"),
    [
        ("nothing", 9, "the last layers (head, head_dist) start with new weights"),
        ("head_dist.", 5, "the last layer (head_dist) starts with new weights"),  # not distilled
    ],
)
def test_each_head_that_starts_fresh_is_said(
    tmp_path: Path, left_out: str, classes: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arch = "timm:deit_tiny_distilled_patch16_224"
    whole = create(arch, classes, 32).state_dict()
    tensors = {key: value for key, value in whole.items() if not key.startswith(left_out)}
    coverage = load_weights(create(arch, 5, 32), saved(tmp_path, tensors), 1.0)
    assert coverage.head_replaced and coverage.coverage == coverage.used == 1
    assert message in capsys.readouterr().err


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path: Path) -> None:
    network = Own(4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    other = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).state_dict()
    with pytest.raises(Refused, match=r"train\.min_weights_coverage asks for 95\.0%.*missing.*unexpected") as no:
        load_weights(network, saved(tmp_path, other), 0.95)
    assert isinstance(no.value.report, TrainReport) and no.value.report.weights is not None
    assert no.value.report.weights.coverage == 0.0
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_counter_of_batches_is_not_missed(tmp_path: Path) -> None:
    old = {key: value for key, value in state().items() if not key.endswith("num_batches_tracked")}
    coverage = load_weights(Own(4), saved(tmp_path, old), 1.0)
    assert coverage.missing == ()


def test_quantised_weights_are_not_taken_for_real_numbers(tmp_path: Path) -> None:
    tensors = state()
    tensors["conv.weight"] = (tensors["conv.weight"] * 127).to(torch.int8)
    coverage = load_weights(Own(4), saved(tmp_path, tensors), 0.5)
    assert coverage.other_shape == ("conv.weight",)


def test_half_precision_is_widened(tmp_path: Path) -> None:
    network, wanted = Own(4), state()
    halves = {key: value.half() if value.is_floating_point() else value for key, value in wanted.items()}
    assert load_weights(network, saved(tmp_path, halves), 1.0).coverage == 1
    assert network.conv.weight.dtype == torch.float32
    torch.testing.assert_close(network.conv.weight, wanted["conv.weight"], rtol=1e-3, atol=1e-4)  # fp16's 11 bits


def test_weights_of_a_larger_network_are_refused_though_they_fill_this_one(tmp_path: Path) -> None:
    tensors = state() | {f"conv{number}.weight": torch.ones(1) for number in range(2, 9)}
    with pytest.raises(Refused, match=r"has tensors of which Own uses 53\.3%.*7 unexpected") as refusal:
        load_weights(Own(4), saved(tmp_path, tensors), 0.9)
    report = refusal.value.report
    assert isinstance(report, TrainReport) and report.weights is not None
    assert report.weights.coverage == 1
    assert report.weights.used == pytest.approx(8 / 15)


@pytest.mark.parametrize(("name", "auxiliary"), [("googlenet", "aux1."), ("inception_v3", "AuxLogits.")])
def test_auxiliary_heads_that_the_network_is_made_without_do_not_count(
    tmp_path: Path, name: str, auxiliary: str
) -> None:
    make = partial(torchvision.models.get_model, name, weights=None, init_weights=False)
    whole = make(aux_logits=True, num_classes=9).state_dict()
    old = {key: value for key, value in whole.items() if not key.endswith("num_batches_tracked")}
    coverage = load_weights(make(aux_logits=False, num_classes=4), saved(tmp_path, old), 1.0)
    assert coverage.coverage == coverage.used == 1 and coverage.head_replaced
    assert any(key.startswith(auxiliary) for key in coverage.unexpected)  # not counted, but listed


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise AssertionError('code of a file was run')",))


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path: Path) -> None:
    tensors = state()
    key = next(iter(tensors))
    tensors[key].view(-1)[0] = float("nan")
    with pytest.raises(Refused, match=f"not finite in 1 of its tensors, the first {key}"):
        load_weights(Own(4), saved(tmp_path, tensors), 0.9)


def test_code_inside_a_file_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(BadInput, match="no file of plain weights"):
        read_weights(tmp_path / "weights.pt")
    torch.save(Hostile(), tmp_path / "weights.pt")
    with pytest.raises(BadInput, match="no file of plain weights"):
        read_weights(tmp_path / "weights.pt")


def test_what_holds_no_weights_is_an_error_that_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the file holds epoch, note"):
        read_weights(saved(tmp_path, {"epoch": 3, "note": "hello"}))
    with pytest.raises(BadInput, match="is not there"):
        read_weights(tmp_path / "nothing.pt")


def no_numbers(kind: str, weight: Tensor) -> Tensor:
    """Return an object that looks like the weight but is not a plain tensor of numbers."""
    match kind:
        case "quantised":
            return torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
        case "sparse":
            return weight.to_sparse()
        case "meta":
            return weight.to("meta")
        case "expanded":
            return torch.zeros(1).expand(1 << 40)  # four bytes in the file
    return weight.to(torch.float8_e4m3fn)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")  # torch warns in this test
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("quantised", r"is quantised \(qint8\)"),
        ("sparse", r"is no dense tensor \(sparse_coo\)"),
        ("meta", "has a shape and no numbers"),
        ("expanded", "claims 1,099,511,627,776 numbers, and the file has fewer"),
        ("float8", "has the type float8_e4m3fn"),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused_by_name(tmp_path: Path, kind: str, message: str) -> None:
    tensors = state()
    path = saved(tmp_path, tensors | {"conv.weight": no_numbers(kind, tensors["conv.weight"])})
    resolve_preprocessing(
        StatedPreprocessing(), path, "adopt", "tests.models.artifacts:Own"
    )  # searches for a preprocessing and finds none
    network = Own(4)
    before = network.norm.weight.clone()
    with pytest.raises(BadInput, match=rf"weights\.pt: conv\.weight {message}"):
        load_weights(network, path, 0.5)
    assert torch.equal(network.norm.weight, before)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F4", "C64", "F6_E2M3"])
def test_a_safetensors_file_of_other_numbers_is_refused_by_name(tmp_path: Path, dtype: str) -> None:
    numbers = {"F8_E4M3": 4, "F4": 2, "C64": 32, "F6_E2M3": 3}[dtype]  # the bytes of four numbers
    header = json.dumps({"x": {"dtype": dtype, "shape": [4], "data_offsets": [0, numbers]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(numbers)
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=r"weights\.safetensors"):
        load_weights(Own(4), tmp_path / "weights.safetensors", 0.5)


def test_a_checkpoint_that_holds_itself_is_searched_to_an_end(tmp_path: Path) -> None:
    content: dict[str, Any] = {"epoch": 3}
    content["state_dict"] = content["model"] = content
    with pytest.raises(BadInput, match="the file holds epoch, state_dict, model"):
        read_weights(saved(tmp_path, content))
