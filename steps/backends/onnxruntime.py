"""ONNX Runtime on the CPU, which runs model.onnx as it is: the default engine, and the engine in every release."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime

from steps.engines.contract import FIXED_BATCH, Built, Images, Logits, Order, Runner, WrongFile
from steps.engines.intermediate import Intermediate, is_real, layer_of
from steps.reports.card import Card, Device

MODEL = "model.onnx"
CLASS_NAMES = "class_names"  # the key of the graph's metadata: a JSON list, in the order of the logits


def open_engine(folder: Path, card: Card, threads: int | None) -> Runner:
    """Return the runner of folder/model.onnx; the graph must have the card's class names, in the card's order."""
    session = _session(folder / MODEL, threads)
    _check_class_names(session, folder, card)
    (source,) = session.get_inputs()
    if isinstance(source.shape[0], int):
        raise WrongFile(FIXED_BATCH.format(file=folder / MODEL, batch=source.shape[0]))

    def run(images_NHWC_u8: Images) -> Logits:
        (logits_NK,) = session.run(None, {source.name: np.ascontiguousarray(images_NHWC_u8)})
        return np.asarray(logits_NK, dtype=np.float32)

    return run


def build(order: Order) -> Built:
    """Copy the graph as it is: ONNX Runtime optimises the graph for the machine whenever it opens the graph."""
    shutil.copyfile(order.graph, order.out / MODEL)
    versions = {"onnxruntime": onnxruntime.__version__}
    return Built(Device(kind="cpu", runtime=f"onnxruntime {onnxruntime.__version__}"), versions)


def read_tensors(folder: Path, card: Card, images_NHWC_u8: Images) -> list[Intermediate]:  # noqa: ARG001
    """Return every real tensor of the graph: each tensor becomes an output, and the graph runs once."""
    import onnx

    model = onnx.load(folder / MODEL)
    nodes = {name: node for node in model.graph.node for name in node.output if name}
    outputs = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in nodes if name not in outputs)
    session = _session(model.SerializeToString(), None)
    (source,) = session.get_inputs()
    arrays = session.run(list(nodes), {source.name: np.ascontiguousarray(images_NHWC_u8)})
    return [
        Intermediate(name, node.op_type, layer_of(list(node.input)), np.asarray(array, np.float32))
        for (name, node), array in zip(nodes.items(), arrays, strict=True)
        if is_real(array, len(images_NHWC_u8))
    ]


def _session(model: Path | bytes, threads: int | None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; they are raised as well
    options.intra_op_num_threads = threads or 0
    options.use_deterministic_compute = True
    # Idle threads sleep, because two threads can share a core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as fault:  # ONNX Runtime's exceptions share no base class
        name = model if isinstance(model, Path) else "the graph with all its tensors as outputs"
        raise WrongFile(f"ONNX Runtime cannot read {name}: {' '.join(str(fault).split())}") from fault


def _check_class_names(session: onnxruntime.InferenceSession, folder: Path, card: Card) -> None:
    written = session.get_modelmeta().custom_metadata_map.get(CLASS_NAMES)
    names = tuple(json.loads(written)) if written else ()
    if names != card.class_names:
        raise WrongFile(
            f"{folder / MODEL} names its classes {_shown(names)}, but its card says {_shown(card.class_names)}: "
            "the graph and the card are not of one model. Export it again."
        )


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "not at all"
