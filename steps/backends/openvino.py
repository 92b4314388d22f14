"""OpenVINO on the CPU: an IR of model.xml and model.bin. On few threads, this is often the fastest engine."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openvino

from steps.engines.contract import (
    FIXED_BATCH,
    Built,
    CannotBuild,
    CannotRunHere,
    Images,
    Logits,
    Order,
    Runner,
    WrongFile,
)
from steps.engines.intermediate import Intermediate, is_real
from steps.reports.card import Card, Device

MODEL = "model.xml"
LABELS = ["model_info", "labels_json"]  # the IR's key of the class names, in the order of the logits
NO_TENSOR = ("Parameter", "Constant", "Result")
AUTOMATIC_NAME = re.compile(r"[A-Za-z]+_\d+")  # OpenVINO's name of a nameless node, numbered in the whole process


def open_engine(folder: Path, card: Card, threads: int | None) -> Runner:
    """Return the runner of folder/model.xml; the IR must have the card's class names, in the card's order.

    The runner computes in float32 (or int8, where the graph says so), except for a bf16 engine. By default,
    OpenVINO uses bfloat16 on every CPU with bfloat16: such an engine would not be the judged engine.
    """
    settings = _settings(card)
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    with _reading(folder):
        core = _core(card)
        model = core.read_model(folder / MODEL)
        compiled = core.compile_model(model, "CPU", settings)
    _check_class_names(model, folder, card)
    batch = model.input(0).partial_shape[0]
    if batch.is_static:
        raise WrongFile(FIXED_BATCH.format(file=folder / MODEL, batch=batch))

    def run(images_NHWC_u8: Images) -> Logits:
        return np.array(compiled(images_NHWC_u8)[0], dtype=np.float32)  # a copy: the next call reuses the buffer

    return run


def build(order: Order) -> Built:
    """Write the IR, or raise CannotBuild with OpenVINO's reason; the same graph gives the same bytes."""
    try:
        model = openvino.Core().read_model(order.graph)
    except RuntimeError as fault:
        raise CannotBuild(f"OpenVINO cannot convert the graph: {_last_line(fault)}") from fault
    if order.max_side is not None and _holds_bfloat16(model):
        raise CannotBuild(
            "OpenVINO computes the resize in bfloat16 too, and bfloat16 cannot hold the 256 levels of a pixel; "
            "set build.preprocess: host, or build openvino-fp32"
        )
    for position, node in enumerate(model.get_ordered_ops()):
        if AUTOMATIC_NAME.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}_{position}")
    model.set_rt_info(json.dumps(order.class_names), LABELS)
    openvino.save_model(
        model, order.out / MODEL, compress_to_fp16=False
    )  # the graph already has the engine's precision
    version = openvino.get_version()
    return Built(Device(kind="cpu", runtime=f"openvino {version}"), {"openvino": version})


def _holds_bfloat16(model: openvino.Model) -> bool:
    constants = (node for node in model.get_ops() if node.get_type_name() == "Constant")
    return any(node.get_element_type() == openvino.Type.bf16 for node in constants)


def read_tensors(folder: Path, card: Card, images_NHWC_u8: Images) -> list[Intermediate]:
    """Return every real tensor with a name of the ONNX graph: each tensor becomes an output of the IR.

    Raises the errors of open_engine: CannotRunHere, WrongFile.
    """
    with _reading(folder):
        core = _core(card)
        model = core.read_model(folder / MODEL)
    nodes = [node for node in model.get_ordered_ops() if node.get_type_name() not in NO_TENSOR]
    named = [(min(port.get_names()), node, port) for node in nodes for port in node.outputs() if port.get_names()]
    outputs = {name for output in model.outputs for name in output.get_names()}
    model.add_outputs([port for name, _, port in named if name not in outputs])
    with _reading(folder):
        compiled = core.compile_model(model, "CPU", _settings(card))
    results = compiled(images_NHWC_u8)
    arrays = {name: array for port, array in results.items() for name in port.get_names()}
    return [
        Intermediate(name, node.get_type_name(), "", np.array(arrays[name], np.float32))
        for name, node, _ in named
        if is_real(arrays[name], len(images_NHWC_u8))
    ]


def _core(card: Card) -> openvino.Core:
    """Return OpenVINO's core, or raise CannotRunHere where this CPU lacks the card's precision."""
    core = openvino.Core()
    if card.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise CannotRunHere(f"{card.form} computes in bfloat16, which this CPU lacks; build openvino-fp32.")
    return core


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Raise WrongFile where OpenVINO cannot read the folder's model."""
    try:
        yield
    except RuntimeError as fault:
        raise WrongFile(f"OpenVINO cannot read {folder / MODEL}: {_last_line(fault)}") from fault


def _settings(card: Card) -> dict[str, str | int]:
    hint = "bf16" if card.precision == "bf16" else "f32"
    return {"INFERENCE_PRECISION_HINT": hint, "EXECUTION_MODE_HINT": "ACCURACY"}


def _check_class_names(model: openvino.Model, folder: Path, card: Card) -> None:
    names = tuple(json.loads(model.get_rt_info(LABELS).astype(str))) if model.has_rt_info(LABELS) else ()
    if names != card.class_names:
        raise WrongFile(
            f"{folder / MODEL} has {len(names)} class names, which are not its card's "
            f"{len(card.class_names)} class names: the engine and the card are not of one model. Build it again."
        )


def _last_line(fault: RuntimeError) -> str:
    """Return the last line of OpenVINO's message; the lines before it name source files."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[-1] if lines else "it gives no reason."
