"""build_engine: from the exported ONNX model to an engine's files, proved to answer where it can run."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from steps.backends.build_cache import CACHED, build_or_take
from steps.backends.contract import BatchRange, Built, CannotBuild, Images, Order, Runner
from steps.backends.facts import facts_of
from steps.backends.half_range import check_half_range
from steps.backends.int8 import Int8Outcome, Int8Plan
from steps.backends.precision import write_graph
from steps.backends.preprocess_graph import prepend_preprocessing
from steps.backends.runner import backend_module
from steps.backends.sanity import fault_of
from steps.backends.table import Precision
from steps.reports.artifact import FACTS, read_verified_card
from steps.reports.card import Device

EXPORTED = "model.onnx"


@dataclass(frozen=True)
class Target:
    """What an engine is built for."""

    backend: str
    precision: Precision
    batch: BatchRange
    compute_capabilities: tuple[str, ...]
    max_side: int | None = None  # pixels; resize and crop go into the engine. None: they are left to its caller
    threads: int | None = None  # of the CPU, that the engine is to run on


def build_engine(
    target: Target, model: Path, out: Path, int8: Int8Plan | None
) -> tuple[Built, Int8Outcome | None]:
    """Write the engine's files and engine.json into `out`; int8 tells how it does.

    Raises CannotBuild or MissingPackage.
    """
    card = read_verified_card(model)
    module = backend_module(target.backend)
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / EXPORTED
        outcome = write_graph(model / EXPORTED, graph, target.precision, int8)
        if target.precision == "fp16":
            check_half_range(model)
        if target.max_side is not None:
            prepend_preprocessing(graph, card.preprocessing, target.max_side)
        capabilities = target.compute_capabilities
        order = Order(target.backend, graph, out, card.class_names, target.batch, capabilities, target.max_side)
        built = build_or_take(order, module.build) if target.backend in CACHED else module.build(order)
        built = replace(built, device=_for_serving(built.device, target))
        facts_of(order, target.precision, built).write(out / FACTS)
        return built, outcome


def _for_serving(device: Device, target: Target) -> Device:
    """Return what the card says of the machine, with the settings under which the engine is to run there."""
    threads = target.threads if device.kind == "cpu" else None
    return device.model_copy(update={"threads": threads, "best_batch": target.batch.best})


def check_answers(run: Runner, precision: Precision, *probes_NHWC_u8: Images) -> None:
    """Raise CannotBuild where the engine's outputs are constant, not finite or saturated."""
    fault = fault_of(np.concatenate([run(images) for images in probes_NHWC_u8]), precision)
    if fault:
        raise CannotBuild(f"the engine was built, but {fault}; it must not be used.")
