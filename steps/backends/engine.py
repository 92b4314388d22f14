"""build_engine: from the exported ONNX model to an engine's files, proved to answer where it can run."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steps.backends.contract import BatchRange, Built, CannotBuild, Images, Order, Runner
from steps.backends.int8 import Int8Outcome, Int8Plan
from steps.backends.precision import write_graph
from steps.backends.runner import backend_module
from steps.backends.sanity import fault_of
from steps.backends.table import Precision
from steps.reports.artifact import read_verified_card

EXPORTED = "model.onnx"


@dataclass(frozen=True)
class Target:
    """What an engine is built for."""

    backend: str
    precision: Precision
    batch: BatchRange
    compute_capabilities: tuple[str, ...]


def build_engine(
    target: Target, model: Path, out: Path, int8: Int8Plan | None
) -> tuple[Built, Int8Outcome | None]:
    """Write the engine's files into `out`, or raise CannotBuild or MissingPackage; int8 tells how it does."""
    card = read_verified_card(model)
    module = backend_module(target.backend)
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / EXPORTED
        outcome = write_graph(model / EXPORTED, graph, target.precision, int8)
        order = Order(target.backend, graph, out, card.class_names, target.batch, target.compute_capabilities)
        return module.build(order), outcome


def check_answers(run: Runner, precision: Precision, *probes_NHWC_u8: Images) -> None:
    """Raise CannotBuild where the engine's outputs are constant, not finite or saturated."""
    fault = fault_of(np.concatenate([run(images) for images in probes_NHWC_u8]), precision)
    if fault:
        raise CannotBuild(f"the engine was built, but {fault}; it must not be used.")
