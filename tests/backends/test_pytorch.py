"""The trained and the fused form are PyTorch modules: a module read from its artifact equals the stored module."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from steps.backends import pytorch
from steps.backends.runner import backend_module, open_runner
from steps.engines.contract import BatchRange, Order
from steps.errors import StepError
from steps.models.architectures import create
from steps.models.files import ProbeImages, save_model
from steps.models.normalised import normalised
from steps.reparam.expand import expand
from steps.reports.card import Card, Expansion
from tests.backends.tiny import HOW, NAMES, SIZE, probe_images

ARCH = "repvgg_nano"


def stored(folder: Path, block: str, head_scale: float = 1.0) -> nn.Module:
    """Store a network with random weights and batch norm statistics, as train stores one; return the network."""
    torch.manual_seed(0)
    network = create(ARCH, len(NAMES), SIZE)
    if block != "none":
        expand(network, block, "all", example_NCHW=torch.zeros(1, 3, SIZE, SIZE))
    with torch.no_grad():
        list(network.parameters())[-2].mul_(head_scale)  # a trained head separates images, a fresh head hardly
    network.train()
    network((torch.from_numpy(probe_images(8)).float() / 255).permute(0, 3, 1, 2))  # updates the statistics
    expansion = None if block == "none" else Expansion(block=block, where="all", mode="branch")
    card = Card(
        form="train",
        arch=ARCH,
        class_num=len(NAMES),
        class_names=NAMES,
        preprocessing=HOW,
        expansion=expansion,
        files={},
        artifact="",
    )
    save_model(folder, network.eval(), card, ProbeImages(probe_images(2), ("a", "b"), (0, 1)))
    return network


@pytest.mark.parametrize("block", ["none", "repvgg"])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_stored_network_answers_as_the_one_in_memory(block: str, batch: int, tmp_path: Path) -> None:
    network = stored(tmp_path, block)
    images_NHWC_u8 = probe_images(7)[:batch]
    run, card = open_runner(tmp_path)
    with torch.inference_mode():
        wanted_NK = normalised(network, HOW).eval()(torch.from_numpy(images_NHWC_u8)).numpy()
    logits_NK = run(images_NHWC_u8)
    assert card.backend == "pytorch"
    assert logits_NK.dtype == np.float32
    np.testing.assert_allclose(logits_NK, wanted_NK, rtol=0, atol=1e-6 * np.abs(wanted_NK).max())


@pytest.mark.parametrize(
    ("gpu", "threads", "device"), [(True, None, "cuda"), (True, 1, "cpu"), (False, None, "cpu"), (False, 2, "cpu")]
)
def test_it_runs_on_the_gpu_unless_threads_of_the_cpu_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, gpu: bool, threads: int | None, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert pytorch._device(threads).type == device


@pytest.mark.gpu
def test_a_gpu_answers_as_the_cpu_does(tmp_path: Path) -> None:
    stored(tmp_path, "repvgg")
    images_NHWC_u8 = probe_images(7)
    wanted_NK, found_NK = (open_runner(tmp_path, threads)[0](images_NHWC_u8) for threads in (1, None))
    np.testing.assert_allclose(found_NK, wanted_NK, rtol=0, atol=1e-5 * np.abs(wanted_NK).max())


def test_pytorch_is_no_engine_to_build(tmp_path: Path) -> None:
    order = Order("pytorch", tmp_path / "model.onnx", tmp_path, NAMES, BatchRange(1, 1, 1), ())
    with pytest.raises(StepError, match="builds no engine"):
        backend_module("pytorch").build(order)
