"""Networks train channels last, and oneDNN never gets a convolution with which it corrupts memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from steps.training.memory_format import lay_out

STEPS = """
import torch
from steps.weights.preprocessing import DEFAULTS
from steps.reports.card import Expansion
from steps.training.network import NetworkSpec, make_network

arch, block = {arch!r}, {block!r}
settings = DEFAULTS.model_copy(update={{"size": 32, "resize": 32}})
expansion = Expansion(block=block, where="all", mode="branch") if block else None
spec = NetworkSpec(arch, 3, settings, None, 0.95, None, expansion, "standard")
made = make_network(spec, 0, torch.device("cpu"))
made.network.train()
for _ in range(8):
    made.network(torch.zeros(8, 32, 32, 3, dtype=torch.uint8)).square().sum().backward()
"""


@pytest.mark.parametrize(
    ("arch", "block"), [("repvgg_nano", "repvgg"), ("repvgg_nano", "dbb"), ("timm:repvgg_a0", "")]
)
def test_a_step_writes_nowhere_but_in_its_own_memory(arch: str, block: str) -> None:
    """MALLOC_CHECK_ makes glibc end a process with corrupt memory; a CPU with AVX-512 never corrupts it."""
    environment = {**os.environ, "MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"}
    script = STEPS.format(arch=arch, block=block)
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_only_a_strided_point_on_few_channels_is_handed_channels_first() -> None:
    convs = {
        "spoilt": nn.Conv2d(3, 16, 1, stride=2),
        "wide": nn.Conv2d(3, 16, 3, stride=2),
        "at rest": nn.Conv2d(3, 16, 1),
        "deep": nn.Conv2d(8, 16, 1, stride=2),
    }
    lay_out(nn.ModuleDict(convs))
    given: dict[str, Tensor] = {}
    for name, conv in convs.items():
        conv.register_forward_pre_hook(lambda _, inputs, name=name: given.update({name: inputs[0]}))
        channels = conv.weight.shape[1]
        conv(torch.randn(2, channels, 4, 4).to(memory_format=torch.channels_last)).sum().backward()
    last = {name: image.is_contiguous(memory_format=torch.channels_last) for name, image in given.items()}
    assert last == {"spoilt": False, "wide": True, "at rest": True, "deep": True}
    assert convs["spoilt"].weight.stride() == (3, 1, 1, 1)
