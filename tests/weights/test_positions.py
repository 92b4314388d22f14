"""A vision transformer's weights fit another input size, and a message says if there are few images."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from steps.errors import Refused
from steps.models.architectures import create
from steps.reports.train import TrainReport
from steps.weights.loading import load_weights
from steps.weights.positions import NEEDS, are_positions, fitted, little_data


def ramp(side: int, prefix: int, width: int) -> Tensor:
    """Return embeddings that grow evenly from left to right, after prefix tokens of -1."""
    columns = ((torch.arange(side) + 0.5) / side).repeat(side)
    tokens = torch.cat([-torch.ones(prefix), columns])
    return tokens[None, :, None].repeat(1, 1, width)


@pytest.mark.parametrize(
    ("arch", "prefix"), [("timm:vit_tiny_patch16_224", 1), ("timm:deit_tiny_distilled_patch16_224", 2)]
)
@pytest.mark.parametrize("size", [160, 352])
def test_an_embedding_keeps_its_places_and_its_prefix_at_another_size(arch: str, prefix: int, size: int) -> None:
    name = "pos_embed"
    network = create(arch, 3, size)
    given = {name: ramp(14, prefix, 192)}
    tensors, names = fitted(network, given)
    side = size // 16
    assert names == (name,) and tensors[name].shape == network.state_dict()[name].shape
    assert torch.equal(tensors[name][:, :prefix], given[name][:, :prefix])
    inner = tensors[name][:, prefix:].reshape(side, side, -1)[:, 2:-2]  # cubic interpolation bends at the border
    torch.testing.assert_close(inner, ramp(side, 0, 192).reshape(side, side, -1)[:, 2:-2], atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("timm:vit_tiny_patch16_224", "pos_embed"),
        pytest.param("torchvision:vit_b_16", "encoder.pos_embedding", marks=pytest.mark.slow),
    ],
)
def test_weights_of_another_input_size_load_whole(
    tmp_path: Path, arch: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(create(arch, 3, 64).state_dict(), tmp_path / "vit.pt")
    network = create(arch, 3, 48)
    coverage = load_weights(network, tmp_path / "vit.pt", 1.0)
    assert coverage.interpolated == (name,) and coverage.coverage == 1
    assert f"1 interpolated to this input size ({name})" in capsys.readouterr().err
    assert network.eval()(torch.zeros(1, 3, 48, 48)).isfinite().all()


@pytest.mark.parametrize("arch", ["timm:cait_xxs24_224", "timm:pit_ti_224", "timm:volo_d1_224"])
def test_grids_and_embeddings_without_the_prefix_that_timm_names_load_whole(tmp_path: Path, arch: str) -> None:
    torch.save(create(arch, 3, 96).state_dict(), tmp_path / "vit.pt")
    network = create(arch, 3, 64)
    coverage = load_weights(network, tmp_path / "vit.pt", 1.0)
    assert coverage.interpolated == ("pos_embed",) and coverage.coverage == 1
    assert network.eval()(torch.zeros(1, 3, 64, 64)).isfinite().all()


@pytest.mark.parametrize(("arch", "axis"), [("timm:pit_ti_224", 3), ("timm:volo_d1_224", 2)])
def test_a_grid_keeps_its_places_at_another_size(arch: str, axis: int) -> None:
    network = create(arch, 3, 160)
    wanted, given = network.state_dict()["pos_embed"], create(arch, 3, 224).state_dict()["pos_embed"]
    tensors, names = fitted(network, {"pos_embed": columns(given.shape, axis)})
    assert names == ("pos_embed",)
    inner = slice(2, wanted.shape[axis] - 2)  # cubic interpolation bends at the border
    torch.testing.assert_close(
        tensors["pos_embed"].movedim(axis, 0)[inner],
        columns(wanted.shape, axis).movedim(axis, 0)[inner],
        atol=0.02,
        rtol=0,
    )


def columns(shape: torch.Size, axis: int) -> Tensor:
    """Return a grid's values that grow evenly along one axis."""
    places = (torch.arange(shape[axis]) + 0.5) / shape[axis]
    return places.reshape([-1 if dim == axis else 1 for dim in range(4)]).expand(shape)


@pytest.mark.parametrize(
    ("arch", "name"),
    [("timm:nest_tiny", "levels.0.pos_embed"), ("timm:visformer_tiny", "pos_embed1")],
)
def test_places_that_cannot_be_interpolated_are_refused_and_change_nothing(
    tmp_path: Path, arch: str, name: str
) -> None:
    torch.save(create(arch, 3, 224).state_dict(), tmp_path / "vit.pt")
    network = create(arch, 3, 192)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(
        Refused, match=rf"{name} has the positions of the patches for .*train\.preprocess\.side"
    ) as refusal:
        load_weights(network, tmp_path / "vit.pt", 0.5)
    report = refusal.value.report
    assert isinstance(report, TrainReport) and report.weights is not None and name in report.weights.other_shape
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("pos_embed", True),
        ("layers.0.blocks.0.attn.relative_position_bias_table", True),
        ("stages.0.blocks.0.attn.rel_pos_h", True),
        ("patch_pos", True),
        ("stages.0.blocks.0.attn.attention_biases", True),
        ("position.weight", False),
        ("layer1.0.conv1.composed", False),
        ("pose.weight", False),
    ],
)
def test_what_tells_places_is_known_by_its_name(name: str, is_one: bool) -> None:
    assert are_positions(name) == is_one


def test_weights_of_the_same_size_are_not_touched() -> None:
    network = create("timm:vit_tiny_patch16_224", 3, 48)
    state = network.state_dict()
    tensors, names = fitted(network, state)
    assert names == () and all(torch.equal(tensors[key], state[key]) for key in state)


@pytest.mark.parametrize(("tokens", "width"), [(7, 192), (1, 192), (197, 384)])
def test_what_is_no_square_of_patches_or_of_another_width_is_left_to_be_counted(tokens: int, width: int) -> None:
    network = create("timm:vit_tiny_patch16_224", 3, 48)
    assert fitted(network, {"pos_embed": torch.zeros(1, tokens, width)})[1] == ()


def test_a_vision_transformer_warns_on_few_images_and_fresh_weights_alone() -> None:
    vit = create("timm:vit_tiny_patch16_224", 3, 48)
    sentence = little_data(vit, 3250, weights=False)
    assert sentence is not None and "3,250 images are few" in sentence
    assert little_data(vit, 3250, weights=True) is None
    assert little_data(vit, NEEDS, weights=False) is None
    assert little_data(create("repvgg_nano", 3, 48), 10, weights=False) is None
