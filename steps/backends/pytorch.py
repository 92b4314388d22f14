"""PyTorch, eager: runs the forms train and fuse, which are still modules."""

from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from steps.engines.contract import Built, CannotBuild, Images, Logits, Order, Runner
from steps.engines.intermediate import Intermediate, is_real
from steps.models.files import load_classifier
from steps.reports.card import Card

LOGITS = "logits_NK"


def open_engine(folder: Path, card: Card, threads: int | None) -> Runner:  # noqa: ARG001 - the contract has it
    """Return the runner of a module in eval mode, with strictly loaded weights.

    The module runs on the GPU if there is a GPU, and on the CPU if the caller gives a number of threads.
    """
    if threads:
        torch.set_num_threads(threads)
    device = _device(threads)
    module = load_classifier(folder)[0].to(device)

    @torch.inference_mode()
    def run(images_NHWC_u8: Images) -> Logits:
        batch_NHWC_u8 = torch.from_numpy(np.ascontiguousarray(images_NHWC_u8)).to(device)
        with _float32(device):
            logits: Logits = module(batch_NHWC_u8).float().cpu().numpy()
        return logits

    return run


def _float32(device: torch.device) -> AbstractContextManager[None]:
    """Let cuDNN compute in float32: by default it uses TF32, which keeps 10 bits of float32's 23."""
    if device.type == "cpu":
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


def _device(threads: int | None) -> torch.device:
    return torch.device("cuda" if threads is None and torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def read_tensors(folder: Path, card: Card, images_NHWC_u8: Images) -> list[Intermediate]:  # noqa: ARG001
    """Return the output of each call of each module of the network; the last output is `logits_NK`."""
    classifier, _ = load_classifier(folder)
    found: list[Intermediate] = []
    calls: Counter[str] = Counter()

    def note(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and is_real(output.numpy(), len(images_NHWC_u8)):
                calls[name] += 1
                numbered = name if calls[name] == 1 else f"{name}, call {calls[name]}"
                # a copy, because the next module may change the output in place
                found.append(Intermediate(numbered, type(module).__name__, name, output.float().numpy().copy()))

        return hook

    for name, module in classifier.network.named_modules():
        module.register_forward_hook(note(name or LOGITS))
    classifier(torch.from_numpy(np.ascontiguousarray(images_NHWC_u8)))
    return found


def build(order: Order) -> Built:
    """Raise CannotBuild: PyTorch runs the forms train and fuse without a build."""
    raise CannotBuild(f"pytorch builds no engine of {order.graph}; it runs the forms train and fuse.")
