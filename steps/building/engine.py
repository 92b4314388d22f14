"""build_engine: from the exported ONNX model to an engine's files, with a check of the engine where it can run."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from steps.backends.runner import backend_module, usable
from steps.building.cache import Builder, build_or_take
from steps.building.engine_facts import facts_of
from steps.building.half_range import check_half_range
from steps.building.int8 import Int8Outcome, Int8Plan
from steps.building.precision import write_graph
from steps.engines.artifact import read_probes
from steps.engines.contract import (
    BackendModule,
    BatchRange,
    Built,
    CannotBuild,
    CannotRunHere,
    Images,
    Order,
    OtherVersion,
    Runner,
)
from steps.engines.sanity import output_fault
from steps.graphs.preprocessing import prepend_preprocessing
from steps.reports.artifact import FACTS, read_verified_card
from steps.reports.card import Card, Precision

EXPORTED = "model.onnx"
AHEAD_OF_TIME = {"tensorrt-rtx"}  # built for the devices in params.yaml, not for this machine


@dataclass(frozen=True)
class Target:
    """The target of a build."""

    backend: str
    precision: Precision
    batch: BatchRange
    compute_capabilities: tuple[str, ...]
    max_side: int | None = None  # pixels; resize and crop are in the engine. None: the caller resizes
    threads: int | None = None  # CPU threads that the engine will run on


def build_engine(
    target: Target, model: Path, out: Path, int8: Int8Plan | None
) -> tuple[Built, Int8Outcome | None]:
    """Write the engine's files and engine.json into `out`; return the outcome of int8 too.

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
        built = _built(module, order, target, model)
        if built.device.kind == "cpu":
            built = replace(built, device=built.device.model_copy(update={"threads": target.threads}))
        facts_of(order, target.precision, built).write(out / FACTS)
        return built, outcome


def _built(module: BackendModule, order: Order, target: Target, model: Path) -> Built:
    """Return the built engine: a new build, or a cached engine that works, for backends with a cache."""
    if not hasattr(module, "surroundings"):
        return module.build(order)

    def open_it(built: Built) -> None:
        card = card_of(read_verified_card(model), target, built)
        try:
            run = module.open_engine(order.out, card, usable(target.threads))
        except CannotRunHere as reason:
            if target.backend in AHEAD_OF_TIME and not isinstance(reason, OtherVersion):
                return  # the engine is for another machine and cannot be checked here
            raise
        check_answers(run, target.precision, read_probes(model))

    return build_or_take(order, cast(Builder, module), open_it)


def card_of(exported: Card, target: Target, built: Built) -> Card:
    """Return the engine's card without its files: the exported model's card with the changes of the build."""
    return exported.model_copy(
        update={
            "form": f"{target.backend}-{target.precision}",
            "backend": target.backend,
            "precision": target.precision,
            "takes": "sized" if target.max_side is None else "any",
            "max_side": target.max_side,
            "made_from": exported.artifact,
            "versions": {**exported.versions, **built.versions},
            "device": built.device,
        }
    )


def check_answers(run: Runner, precision: Precision, *probes_NHWC_u8: Images) -> None:
    """Raise CannotBuild where the engine's outputs are constant, not finite or saturated."""
    fault = output_fault(np.concatenate([run(images) for images in probes_NHWC_u8]), precision)
    if fault:
        raise CannotBuild(f"the engine was built, but {fault}; it must not be used.")
