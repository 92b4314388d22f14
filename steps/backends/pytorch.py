"""PyTorch, eager: runs the forms of the line that are still modules (train, fuse), and is the reference."""

from collections import Counter
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


def open_engine(folder: Path, card: Card, threads: int | None) -> Runner:  # noqa: ARG001 - every backend is given it
    """Return the runner of a module on the CPU, in eval mode; strict about its weights."""
    if threads:
        torch.set_num_threads(threads)
    module, _ = load_classifier(folder)

    @torch.inference_mode()
    def run(images_NHWC_u8: Images) -> Logits:
        logits: Logits = module(torch.from_numpy(np.ascontiguousarray(images_NHWC_u8))).float().numpy()
        return logits

    return run


@torch.inference_mode()
def read_tensors(folder: Path, card: Card, images_NHWC_u8: Images) -> list[Intermediate]:  # noqa: ARG001
    """Return what each module of the network gives, at each of its calls; the last are the logits, `logits_NK`."""
    classifier, _ = load_classifier(folder)
    found: list[Intermediate] = []
    calls: Counter[str] = Counter()

    def note(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and is_real(output.numpy(), len(images_NHWC_u8)):
                calls[name] += 1
                numbered = name if calls[name] == 1 else f"{name}, call {calls[name]}"
                # a copy: the module that reads it may work in place
                found.append(Intermediate(numbered, type(module).__name__, name, output.float().numpy().copy()))

        return hook

    for name, module in classifier.network.named_modules():
        module.register_forward_hook(note(name or LOGITS))
    classifier(torch.from_numpy(np.ascontiguousarray(images_NHWC_u8)))
    return found


def build(order: Order) -> Built:
    """Refuse: PyTorch runs train and fuse as they are."""
    raise CannotBuild(f"pytorch builds no engine of {order.graph}; it runs the forms train and fuse.")
