"""A name creates a network from any of the sources; a name that no source knows is an error with suggestions."""

import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from timm.utils.model import reparameterize_model
from torch import nn

from steps.errors import BadInput
from steps.models.architectures import ARCHITECTURES, create
from steps.models.heads import head_name, head_parameters
from steps.reparam.expand import expand
from steps.reparam.fold import absorb_norms, fold, norms_left

SMALL = [name for name in ARCHITECTURES if name.endswith(("nano", "a0_plain"))]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_body_of_ours_has_a_head_of_the_wanted_size(arch: str) -> None:
    with torch.device("meta"):
        network = create(arch, 7, 32)
        logits = network(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 7)


@pytest.mark.parametrize("arch", SMALL)
def test_our_bodies_expand_completely_and_fold_to_convolutions_alone(arch: str) -> None:
    network = create(arch, 7, 32).eval()
    plan = expand(network, "repvgg")
    assert len(plan.expanded) == len(plan.sites) == sum(name.endswith("conv") for name, _ in _plain(arch))
    plain = absorb_norms(fold(network))
    assert norms_left(plain) == {}
    assert not [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)]


def _plain(arch: str) -> list[tuple[str, nn.Module]]:
    return [(name, m) for name, m in create(arch, 7, 32).named_modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize(
    ("arch", "classes", "millions"),
    [
        ("repvgg_a0_plain", 1000, 8.30),
        ("repvgg_a1_plain", 1000, 12.78),
        ("repvgg_a2_plain", 1000, 25.49),
        ("repvgg_b0_plain", 1000, 14.33),
        ("repvgg_b1_plain", 1000, 51.82),
        ("repvgg_b1g2_plain", 1000, 41.36),
        ("repvgg_b1g4_plain", 1000, 36.12),
        ("repvgg_b2_plain", 1000, 80.31),
        ("repvgg_b2g4_plain", 1000, 55.77),
        ("repvgg_b3_plain", 1000, 110.96),
        ("repvgg_b3g4_plain", 1000, 75.62),
        ("mobileone_s0_plain", 1000, 2.1),
        ("mobileone_s1_plain", 1000, 4.8),
        ("mobileone_s2_plain", 1000, 7.8),
        ("mobileone_s3_plain", 1000, 10.1),
        ("mobileone_s4_plain", 1000, 14.8),
        ("resnet56_cifar", 10, 0.85),
        ("wrn_16_8", 10, 11.0),
        ("vgg16_cifar", 10, 15.0),
    ],
)
def test_folded_bodies_have_the_size_that_their_papers_give(arch: str, classes: int, millions: float) -> None:
    assert folded_parameters(arch, classes) / 1e6 == pytest.approx(millions, abs=0.05)  # the papers' digits


@pytest.mark.parametrize("name", ["mobileone_s0", "mobileone_s1", "mobileone_s4"])
def test_a_folded_mobileone_is_as_large_as_timms(name: str) -> None:
    theirs = reparameterize_model(timm.create_model(name).eval())
    assert folded_parameters(f"{name}_plain", 1000) == sum(parameter.numel() for parameter in theirs.parameters())


def folded_parameters(arch: str, class_num: int) -> int:
    """Return the number of parameters after each norm became the bias of its convolution."""
    with torch.device("meta"):
        network = create(arch, class_num, 32)
    norms = sum(module.num_features for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    return sum(parameter.numel() for parameter in network.parameters()) - norms


@pytest.mark.parametrize("size", [28, 32, 40])
def test_cifar_quick_takes_the_size_it_is_made_for(size: int) -> None:
    assert create("cifar_quick", 10, size)(torch.zeros(1, 3, size, size)).shape == (1, 10)


@pytest.mark.parametrize(("arch", "norms"), [("cifar_quick", 0), ("resnet56_cifar", 0), ("wrn_16_8", 6)])
def test_acnets_networks_expand_at_each_convolution_that_has_rows_and_columns(arch: str, norms: int) -> None:
    network = create(arch, 10, 32).eval()
    plan = expand(network, "acb", example_NCHW=torch.zeros(1, 3, 32, 32))
    skipped = [site for site in plan.sites if site.skipped]
    assert all("1x1" in (site.skipped or "") for site in skipped) and len(skipped) <= 3
    plain = absorb_norms(fold(network), torch.zeros(1, 3, 32, 32))
    assert len(norms_left(plain)) == norms  # in the wide residual network: norms before a convolution


@pytest.mark.parametrize(
    ("arch", "head"),
    [
        ("resnet18", "fc"),
        ("timm:resnet18", "fc"),
        ("timm:resnet18.a1_in1k", "fc"),
        ("torchvision:resnet18", "fc"),
        ("torchvision:squeezenet1_1", "classifier.1"),
        ("vgg11_bn", "head.fc"),
        ("timm:vit_tiny_patch16_224", "head"),
        ("resnet50_vd", "fc"),
        ("tests.models.artifacts:Own", "head"),
    ],
)
def test_networks_come_from_timm_torchvision_and_the_user(arch: str, head: str) -> None:
    with torch.device("meta"):  # only shapes are needed
        network = create(arch, 5, 64).eval()
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    assert head_name(network) == head
    assert head_parameters(network) == sum(p.numel() for p in network.get_submodule(head).parameters())


@pytest.mark.parametrize(
    ("arch", "sentence"),
    [
        ("resnet81", r"no architecture 'resnet81'.*Did you mean 'resnet\d+'"),
        ("repvgg_nanno", "Did you mean 'repvgg_nano'"),
        ("timm:repvgg_nano", "no architecture 'repvgg_nano' among timm"),
        ("hf-hub:someone/model", "is no architecture"),
        ("local-dir:/somewhere", "is no architecture"),
        ("no_such_package:net", "cannot be imported"),
        ("tests.models.artifacts:Nothing", "has no 'Nothing'"),
        ("tests.models.artifacts:SIZE", "cannot be called"),
        ("tests.models.artifacts:no_class_num", "neither class_num nor num_classes"),
        ("os:abort", "neither class_num nor num_classes|cannot be called"),
        ("tests.models.artifacts:no_network", "returned a int"),
        ("tests.models.artifacts:wrong_head", r"must return logits of shape \(1, 5\)"),
    ],
)
def test_a_wrong_name_is_an_error_that_says_what_would_be_right(arch: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        create(arch, 5, 32)


NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(CHANNELS, 4, 3)
        self.head = nn.Linear(4, num_classes)

    def forward(self, x):
        return self.head(self.conv(x).FLAT)
"""


@pytest.mark.parametrize(
    ("module", "sentence"),
    [
        ("def net(num_classes:\n", r"cannot be imported .*SyntaxError.*\(their_nets\.py:1\)"),
        ("import torch\nnm.Linear\n", r"cannot be imported .*NameError: name 'nm'.*\(their_nets\.py:2\)"),
        ("import math\nmath.no_such\n", r"cannot be imported .*AttributeError.*no_such.*\(their_nets\.py:2\)"),
        ("raise SystemExit(0)\n", r"cannot be imported .*SystemExit: 0 \(their_nets\.py:1\)"),
        (
            "def Net(num_classes):\n    raise ValueError('five is\\nnot enough')\n",
            r"failed to make the network \(num_classes=5\): ValueError: five is \(their_nets\.py:2\)",
        ),
        (
            NETWORK.replace("CHANNELS", "3").replace("FLAT", "flatten(1)"),
            r"failed on one image of shape \(1, 3, 32, 32\).*RuntimeError: mat1 and mat2 .*\(their_nets\.py:12\)",
        ),
        (
            NETWORK.replace("CHANNELS", "1").replace("FLAT", "mean((2, 3))"),
            r"RuntimeError: .*to have 1 channels, but got 3 channels instead \(their_nets\.py:12\)",
        ),
        ("Net = None\n", "their_nets has no 'Net'"),
    ],
)
def test_the_fault_of_ones_own_module_is_one_sentence_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, sentence: str
) -> None:
    (tmp_path / "their_nets.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_nets", raising=False)
    with pytest.raises(BadInput, match=rf"^their_nets:Net.*{sentence}") as fault:
        create("their_nets:Net", 5, 32)
    monkeypatch.delitem(sys.modules, "their_nets", raising=False)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_a_network_whose_published_weights_want_its_input_transformed_transforms_it(name: str) -> None:
    torch.manual_seed(0)
    options = {"weights": None, "aux_logits": False, "init_weights": False}
    theirs = torchvision.models.get_model(name, num_classes=5, transform_input=True, **options).eval()
    calibrate(theirs)
    ours = create(f"torchvision:{name}", 5, 96).eval()
    ours.load_state_dict(theirs.state_dict())
    image_NCHW = torch.randn(2, 3, 96, 96)
    without = torchvision.models.get_model(name, num_classes=5, transform_input=False, **options).eval()
    without.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        logits, wanted, others = (network(image_NCHW) for network in (ours, theirs, without))
    assert torch.equal(logits, wanted)
    assert not torch.allclose(logits, others, rtol=1e-3), "the transformation has to show"


def calibrate(network: nn.Module) -> None:
    """Set each norm's statistics from its input, so that the image influences the output."""
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 3, 96, 96))
    network.eval()


def test_a_size_that_no_patches_fill_is_an_error_that_names_the_key() -> None:
    with pytest.raises(
        BadInput, match=r"vit_b_16 cannot be made for images of 50 pixels \(train\.preprocess\.side\)"
    ):
        create("torchvision:vit_b_16", 5, 50)
