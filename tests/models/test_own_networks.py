"""From which places the train step takes a user's own network, and how a refusal says what to move where."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from steps.errors import BadInput
from steps.models.architectures import create
from steps.models.own_networks import networks_digest, refuse_elsewhere
from steps.training.network import library_versions
from tests.training.trainings import changed, make_workspace, start

NETWORK = """
from torch import nn

def small(num_classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""
LITE = "efficientnet_lite_pytorch"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder whose modules can be imported; it has networks/ and a lock file with two packages."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    for name in ("networks", LITE):  # another test of this process may have imported it from another place
        sys.modules.pop(name, None)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "networks").mkdir()
    (tmp_path / "requirements.lock").write_text(
        "efficientnet-lite-pytorch==0.1.0 \\\n    --hash=sha256:0\ntimm==1\n"
    )
    return tmp_path


def write(path: Path, text: str = NETWORK) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("arch", ["resnet18", "timm:resnet18", "no_such_network", f"{LITE}:EfficientNet"])
@pytest.mark.usefixtures("project")
def test_names_of_libraries_and_pinned_packages_are_taken(arch: str) -> None:
    refuse_elsewhere(arch)


def test_a_network_in_networks_is_taken_with_what_it_imports_from_there(project: Path) -> None:
    write(project / "networks/own_blocks.py")
    write(project / "networks/own_whole.py", "from networks.own_blocks import small\nfrom steps import errors\n")
    refuse_elsewhere("networks.own_whole:small")
    assert create("networks.own_whole:small", 4, 16)(torch.zeros(2, 3, 16, 16)).shape == (2, 4)


def test_a_module_in_the_projects_root_is_refused_with_the_way_to_move_it(project: Path) -> None:
    write(project / "own_nets.py")
    with pytest.raises(BadInput) as refused:
        refuse_elsewhere("own_nets:small")
    assert "lies in own_nets.py, and DVC does not watch that place" in str(refused.value)
    assert "`mkdir -p networks && git mv own_nets.py networks/`" in str(refused.value)
    assert str(refused.value).endswith("set train.arch: networks.own_nets:small.")
    (project / "own_nets.py").rename(project / "networks/own_nets.py")  # as the message says
    refuse_elsewhere("networks.own_nets:small")


@pytest.mark.parametrize(
    ("file", "arch", "sentence"),
    [
        ("zoo/small.py", "zoo.small:small", r"git mv zoo networks/`.*train\.arch: networks\.zoo\.small:small\.$"),
        (
            "benchmarks/of_a_user.py",
            "benchmarks.of_a_user:small",
            r"cp .*benchmarks/of_a_user\.py networks/`, and set train\.arch: networks\.of_a_user:small\.$",
        ),
        (
            "networks/deep.py",
            "deep:small",
            r"networks/deep\.py is there: set train\.arch: networks\.deep:small\.$",
        ),
        ("x.py", "nowhere_at_all:small", r"cannot be imported.*lie in networks/"),
        ("x.py", "numpy:zeros", r"the package numpy is not in requirements\.lock.*`make lock`"),
        ("x.py", "os:abort", r"os, which is part of Python, is not in requirements\.lock"),
        ("x.py", "__main__:small", "cannot be imported"),
        ("x.py", "networks.nothing:small", r"networks\.nothing cannot be imported"),
        ("networks/empty.py", "networks.empty:large", "networks.empty has no 'large'"),
    ],
)
def test_any_other_place_is_refused_with_what_would_be_right(
    project: Path, file: str, arch: str, sentence: str
) -> None:
    write(project / file)
    with pytest.raises(BadInput, match=sentence):
        refuse_elsewhere(arch)


def test_a_file_that_the_network_imports_from_another_place_is_refused(project: Path) -> None:
    write(project / "own_parts.py")
    write(project / "networks/own_body.py", "from own_parts import small\n")
    with pytest.raises(BadInput, match=r"imports own_parts \(own_parts\.py\).*as networks\.own_parts\."):
        refuse_elsewhere("networks.own_body:small")


def test_a_folder_that_shadows_a_pinned_package_is_elsewhere(project: Path) -> None:
    write(project / f"{LITE}/__init__.py")
    with pytest.raises(BadInput, match=rf"lies in {LITE}, and DVC does not watch"):
        refuse_elsewhere(f"{LITE}:small")


def test_the_digest_changes_with_each_file_of_the_folder(project: Path) -> None:
    digests = [networks_digest()]
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.json", "2")):
        write(project / "networks" / name, text)
        digests.append(networks_digest())
    write(project / "networks/__pycache__/a.pyc", "3")
    assert len(set(digests)) == 4 and networks_digest() == digests[-1]


def test_the_versions_hold_the_package_that_the_network_comes_from(project: Path) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    lite: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=3)
    usual = {"timm", "torch", "torchvision"}
    assert set(library_versions("resnet18", nn.Linear(1, 1))) == usual
    assert library_versions(f"{LITE}:net", nn.Linear(1, 1))["efficientnet-lite-pytorch"] == "0.1.0"
    wrapped = library_versions("networks.lite:net", nn.Sequential(lite))
    assert set(wrapped) == {*usual, "efficientnet-lite-pytorch", "networks"}
    assert wrapped["networks"] == networks_digest()


def test_the_train_step_takes_networks_and_refuses_other_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path, monkeypatch)
    write(workspace / "own_nets.py")
    assert start(workspace, changed(arch="own_nets:small", epochs=1)).wait() == 2
    assert not (workspace / "data/train").exists()
    write(workspace / "networks/own_nets.py")
    (workspace / "data").mkdir(exist_ok=True)
    assert start(workspace, changed(arch="networks.own_nets:small", epochs=1)).wait() == 0
    versions = json.loads((workspace / "data/train/model/card.json").read_text())["versions"]
    assert versions["networks"] == networks_digest()
