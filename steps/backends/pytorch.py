"""PyTorch, eager: runs the forms of the line that are still modules (train, fuse), and is the reference."""

from pathlib import Path

import numpy as np
import torch

from steps.backends.contract import Built, CannotBuild, Images, Logits, Order, Runner
from steps.models.files import load_classifier
from steps.reports.card import Card


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


def build(order: Order) -> Built:
    """Refuse: PyTorch runs train and fuse as they are."""
    raise CannotBuild(f"pytorch builds no engine of {order.graph}; it runs the forms train and fuse.")
