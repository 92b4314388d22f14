"""Fuse writes a plain network that is equal to the trained network, or refuses and writes no network."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from steps import fuse as step
from steps.errors import BadInput, Refused
from steps.fuse import fuse
from steps.models.files import load_classifier, load_model, load_probes
from steps.params.fuse import FuseParams
from steps.reparam.branches import BLOCKS, KernelBranch
from steps.reparam.expand import MultiBranchConv
from steps.reparam.fold import absorb_norms
from steps.reparam.kernels import Affine
from steps.reports.card import Card
from steps.reports.certificate import Certificate
from tests.models.artifacts import write_trained

PARAMS = FuseParams()


def fused(tmp_path: Path, block: str | None = "repvgg", arch: str = "repvgg_nano") -> Path:
    write_trained(tmp_path / "trained", block, arch)
    out = tmp_path / "fuse"
    out.mkdir()
    fuse(PARAMS, 0, tmp_path / "trained", out)
    return out


@pytest.mark.parametrize("block", [None, *BLOCKS])
def test_the_fused_network_is_plain_and_the_same(tmp_path: Path, block: str | None) -> None:
    out = fused(tmp_path, block)
    trained, card = load_classifier(tmp_path / "trained")
    plain, plain_card = load_classifier(out / "model")
    images = torch.from_numpy(load_probes(out / "model").images_NHWC_u8)
    torch.testing.assert_close(plain(images), trained(images), rtol=1e-4, atol=1e-4)
    assert not [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d | MultiBranchConv)]
    assert plain_card.fused and plain_card.expansion is None and plain_card.form == "fuse"
    assert plain_card.made_from == card.artifact
    certificate = Certificate.read(out / "certificate.json")
    assert certificate.refused is None and certificate.left_as_is == {}
    assert len(certificate.rows) == 4 * (7 + 1)  # seven convolutions and the whole; two precisions, two probes


@pytest.mark.parametrize("block", BLOCKS)
def test_kept_branches_are_certified_and_load_and_are_the_same(tmp_path: Path, block: str) -> None:
    write_trained(tmp_path / "trained", block)
    (tmp_path / "fuse").mkdir()
    fuse(FuseParams(branches="keep"), 0, tmp_path / "trained", tmp_path / "fuse")
    trained, card = load_classifier(tmp_path / "trained")
    kept, kept_card = load_classifier(tmp_path / "fuse/model")
    images = torch.from_numpy(load_probes(tmp_path / "fuse/model").images_NHWC_u8)
    torch.testing.assert_close(kept(images), trained(images), rtol=1e-4, atol=1e-4)
    assert not kept_card.fused and kept_card.expansion is not None and kept_card.form == "fuse"
    assert kept_card.made_from == card.artifact
    blocks, norms = (
        {name for name, module in network.named_modules() if isinstance(module, kind)}
        for network, kind in ((kept, MultiBranchConv), (kept, nn.BatchNorm2d))
    )
    assert len(blocks) == 7
    assert not any(name.endswith("full.norm") for name in norms)
    certificate = Certificate.read(tmp_path / "fuse/certificate.json")
    assert certificate.left_as_is.keys() == {name.removeprefix("network.") for name in norms}
    assert len(certificate.rows) == 4 * (7 + 1)


def test_a_wrong_norm_in_a_kept_branch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_trained(tmp_path / "trained", "repvgg")
    (tmp_path / "fuse").mkdir()
    right = step.FORMS["keep"]

    def wrong(trained: nn.Module, example: torch.Tensor) -> nn.Module:
        kept = right.make(trained, example)
        kept.get_parameter("body.stage1.1.conv.branches.point.conv.bias").data += 1e-3
        return kept

    monkeypatch.setitem(step.FORMS, "keep", right._replace(make=wrong))
    with pytest.raises(Refused, match=r"at (whole network|body\.stage1\.1\.conv) the network differs"):
        fuse(FuseParams(branches="keep"), 0, tmp_path / "trained", tmp_path / "fuse")


@pytest.mark.parametrize(
    ("block", "why"), [(None, "trained as a plain network"), ("online", "one kernel per site")]
)
def test_branches_that_are_not_there_are_not_kept(tmp_path: Path, block: str | None, why: str) -> None:
    write_trained(tmp_path / "trained", None if block is None else "acb", mode="online")
    (tmp_path / "fuse").mkdir()
    with pytest.raises(Refused, match=f"fuse.branches is keep, but .*{why}; set fuse.branches to fold"):
        fuse(FuseParams(branches="keep"), 0, tmp_path / "trained", tmp_path / "fuse")


def test_a_users_own_network_is_fused(tmp_path: Path) -> None:
    out = fused(tmp_path, "acb", "tests.models.artifacts:Own")
    assert "norm.weight" not in load_model(out / "model")[0].state_dict()


@pytest.mark.parametrize("block", [None, "repvgg"])
def test_a_network_with_a_precision_of_its_own_is_one_sentence(tmp_path: Path, block: str | None) -> None:
    with pytest.raises(BadInput, match="Casting does not compute in float64"):
        fused(tmp_path, block, "tests.models.artifacts:Casting")


@pytest.mark.parametrize("block", [None, "repvgg"])
def test_a_users_own_norm_is_fused_and_loads_as_it_was_paired(tmp_path: Path, block: str | None) -> None:
    out = fused(tmp_path, block, "tests.models.artifacts:OwnNorm")
    state = load_model(out / "model")[0].state_dict()
    assert "norm.weight" not in state and "leaky.weight" in state
    left = Certificate.read(out / "certificate.json").left_as_is
    assert list(left) == ["leaky"] and "computes something else" in left["leaky"]


def test_a_norm_that_could_be_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(model: nn.Module, example_NCHW: torch.Tensor) -> nn.Module:
        complete = absorb_norms(model, example_NCHW)
        for name in ("body.stem.0.conv", "body.stem.0.norm"):
            complete.set_submodule(name, model.get_submodule(name))
        return complete

    monkeypatch.setattr(step, "absorb_norms", forgetful)
    with pytest.raises(Refused, match=r"still has 1 batch norms .* the first body\.stem\.0\.norm") as refusal:
        fused(tmp_path)
    assert isinstance(refusal.value.report, Certificate)
    assert list(refusal.value.report.left_as_is) == ["body.stem.0.norm"]
    assert list((tmp_path / "fuse").iterdir()) == []


@pytest.mark.parametrize(
    "arch",
    [
        "timm:fastvit_t8",
        pytest.param("timm:mobileone_s0", marks=pytest.mark.slow),
        pytest.param("timm:repvgg_a0", marks=pytest.mark.slow),
    ],
)
def test_a_network_with_blocks_of_its_own_is_fused_and_loads(tmp_path: Path, arch: str) -> None:
    write_trained(tmp_path / "trained", None, arch)
    (tmp_path / "fuse").mkdir()
    # Random statistics magnify rounding more than those of any trained network; fp64 keeps its bound.
    fuse(FuseParams(max_error_fp32=1e-3), 0, tmp_path / "trained", tmp_path / "fuse")
    trained, _ = load_classifier(tmp_path / "trained")
    plain, card = load_classifier(tmp_path / "fuse/model")
    images = torch.from_numpy(load_probes(tmp_path / "fuse/model").images_NHWC_u8)
    torch.testing.assert_close(plain(images), trained(images), rtol=1e-3, atol=1e-3)
    assert card.fused and not [m for m in plain.modules() if isinstance(m, nn.BatchNorm2d)]
    assert Certificate.read(tmp_path / "fuse/certificate.json").left_as_is == {}


def test_half_a_precision_is_certified_where_it_is_asked_for(tmp_path: Path) -> None:
    write_trained(tmp_path / "trained")
    for name, bound in (("loose", 0.1), ("tight", 1e-6)):
        (tmp_path / name).mkdir()
        params = FuseParams(max_error_fp16=bound)
        if name == "loose":
            fuse(params, 0, tmp_path / "trained", tmp_path / name)
        else:
            with pytest.raises(Refused, match=r"in fp16 .* fuse\.max_error_fp16 allows 1e-06"):
                fuse(params, 0, tmp_path / "trained", tmp_path / name)
    rows = Certificate.read(tmp_path / "loose/certificate.json").rows
    assert {row.precision for row in rows} == {"fp64", "fp32", "fp16"}


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        fused(tmp_path / name)
    for file in ("certificate.json", "model/model.safetensors", "model/card.json", "model/probes.npz"):
        assert (tmp_path / "one/fuse" / file).read_bytes() == (tmp_path / "two/fuse" / file).read_bytes()


def drop_a_branch(patch: pytest.MonkeyPatch) -> None:
    whole = MultiBranchConv.folded

    def without_the_last(block: MultiBranchConv) -> Affine:
        weight, bias = whole(block)
        if block.site.name != "body.stage1.1.conv":
            return weight, bias
        *_, last = block.parts().values()
        return weight - last.folded()[0], bias - last.folded()[1]

    patch.setattr(MultiBranchConv, "folded", without_the_last)


def forget_the_offset(patch: pytest.MonkeyPatch) -> None:
    whole = KernelBranch.folded

    def at_the_corner(branch: KernelBranch) -> Affine:
        weight, bias = whole(branch)
        return (weight.roll((-1, -1), (2, 3)) if branch.offset == (1, 1) else weight), bias

    patch.setattr(KernelBranch, "folded", at_the_corner)


def lose_precision(patch: pytest.MonkeyPatch) -> None:
    whole = MultiBranchConv.folded

    def rounded(block: MultiBranchConv) -> Affine:
        weight, bias = whole(block)
        return weight.float().double(), bias

    patch.setattr(MultiBranchConv, "folded", rounded)


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (drop_a_branch, r"at body\.stage1\.1\.conv .* fuse\.max_error_fp(32|64) allows"),
        (forget_the_offset, r"fuse\.max_error_fp(32|64) allows"),
        (lose_precision, r"in fp64 .* fuse\.max_error_fp64 allows 1e-12"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_wrong_fold_is_refused_and_no_network_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    sentence: str,
) -> None:
    plant(monkeypatch)
    with pytest.raises(Refused, match=sentence) as refusal:
        fused(tmp_path)
    assert isinstance(refusal.value.report, Certificate) and refusal.value.report.rows
    assert list((tmp_path / "fuse").iterdir()) == []


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(folder: Path) -> tuple[nn.Module, Card]:
        network, card = load_model(folder)
        network.get_parameter("head.bias").data[0] = torch.nan
        return network, card

    monkeypatch.setattr(step, "load_model", broken)
    with pytest.raises(Refused, match=r"whole network .* not finite"):
        fused(tmp_path)
