"""Every network of published comparisons trains a step, is expanded and folded if possible, and exports."""

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from steps.export import export
from steps.fuse import fuse
from steps.models import mobileone_plain, repvgg_plain
from steps.models.architectures import create
from steps.models.files import ProbeImages, save_model
from steps.models.heads import add_bottleneck
from steps.params.export import ExportParams
from steps.params.fuse import FuseParams
from steps.reparam.expand import expand
from steps.reports.card import Card, Expansion, Preprocessing
from steps.reports.certificate import Certificate

CLASSES = 5


class Row(NamedTuple):
    """A network with a small input; `block` is None if no convolution has a batch norm."""

    arch: str
    size: int
    block: str | None
    bottleneck: int | None = None


QUICK = (
    Row("cifar_quick", 28, "acb"),
    Row("repvgg_nano", 16, "repvgg", bottleneck=2),
    Row("resnet18", 32, "repvgg"),
    Row("timm:vit_tiny_patch16_224", 32, None),
)
FAMILIES = (  # every row of the papers' tables, so that a new row is tested at once
    *(Row(name, 32, "repvgg") for name in repvgg_plain.PAPER),
    *(Row(name, 32, "mobileone" if "_s0_" in name else "mobileone_k1") for name in mobileone_plain.PAPER),
)
SLOW = (
    *FAMILIES,
    Row("timm:mobilenetv3_small_050", 32, "acb"),
    Row("torchvision:vgg16_bn", 32, "repvgg"),
    Row("torchvision:vgg16", 32, None),
    Row("timm:vgg16_bn", 32, "acb"),
    Row("timm:vgg16", 32, None),
    Row("vgg16_cifar", 32, "dbb"),
    Row("resnet56_cifar", 32, "acb"),
    Row("wrn_16_8", 32, "acb"),
    Row("resnet50", 64, "acb"),
    Row("torchvision:resnet50", 64, "dbb"),
    Row("resnet50d", 64, "repvgg"),
    Row("inception_v3", 96, "acb"),
    Row("torchvision:inception_v3", 96, "repvgg"),
    Row("efficientnet_b3", 64, "mobileone"),
    Row("mobilenetv3_large_100", 64, "dbb"),
    Row("torchvision:mobilenet_v3_small", 64, "repvgg"),
    Row("timm:vit_small_patch16_224", 48, None),
    Row("torchvision:vit_b_16", 32, None),
)
ROWS = [*QUICK, *(pytest.param(row, marks=pytest.mark.slow) for row in SLOW if row not in QUICK)]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_it_trains_a_step_folds_where_it_can_and_exports_the_same_function(tmp_path: Path, row: Row) -> None:
    torch.manual_seed(0)
    network = create(row.arch, CLASSES, row.size)
    if row.bottleneck is not None:
        add_bottleneck(network, row.bottleneck)
    if row.block is not None:
        expand(network, row.block, init="standard", example_NCHW=torch.zeros(1, 3, row.size, row.size))
    loss = train_a_step(network, row.size)
    assert loss.isfinite()
    write(tmp_path / "trained", network, row)
    fuse(FuseParams(), 0, tmp_path / "trained", tmp_path / "fuse")
    export(ExportParams(), 0, tmp_path / "fuse/model", made(tmp_path / "export"))
    for step in ("fuse", "export"):  # a bound exceeded is refused there; this shows that they compared
        rows = Certificate.read(tmp_path / step / "certificate.json").rows
        assert any(row.site.startswith("whole network") and row.probes == "real" for row in rows)


def train_a_step(network: nn.Module, size: int) -> torch.Tensor:
    """Return the loss of one step of gradient descent; every parameter must have a gradient."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    images_NCHW, labels_N = torch.randn(CLASSES, 3, size, size), torch.arange(CLASSES)
    loss = F.cross_entropy(network.train()(images_NCHW), labels_N)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for parameter in network.parameters())
    optimizer.step()
    return loss.detach()


def write(folder: Path, network: nn.Module, row: Row) -> None:
    """Write the network as train leaves it."""
    random = torch.Generator().manual_seed(1)
    images_NHWC_u8 = torch.randint(0, 256, (2, row.size, row.size, 3), generator=random, dtype=torch.uint8)
    card = Card(
        form="train",
        arch=row.arch,
        class_num=CLASSES,
        class_names=tuple("abcde"),
        preprocessing=Preprocessing(
            size=row.size, resize=row.size, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3
        ),
        bottleneck=row.bottleneck,
        expansion=None if row.block is None else Expansion(block=row.block, where="all", mode="branch"),
        files={},
        artifact="",
    )
    save_model(folder, network.eval(), card, ProbeImages(images_NHWC_u8.numpy(), ("a.png", "b.png"), (0, 1)))


def made(folder: Path) -> Path:
    """Create the folder and return it."""
    folder.mkdir()
    return folder
