"""The graph that an engine was built from, written anew: what its precision makes of the exported one."""

import shutil
from pathlib import Path

from steps.backends.contract import Images
from steps.backends.int8 import Int8Images, Int8Plan
from steps.backends.precision import write_graph
from steps.reports.artifact import CARD, PROBES, write_card
from steps.reports.card import Card

GRAPH = "model.onnx"


def write_graph_of(engine: Path, exported: Path, out: Path, calibration_NHWC_u8: Images) -> Card:
    """Write an artifact for ONNX Runtime into `out` with the graph of the engine's precision; return its card."""
    card = Card.read(engine / CARD)
    images = Int8Images(calibration_NHWC_u8, calibration_NHWC_u8)
    write_graph(exported / GRAPH, out / GRAPH, card.precision, Int8Plan(images))
    shutil.copyfile(exported / PROBES, out / PROBES)
    return write_card(out, card.model_copy(update={"backend": "onnxruntime"}))
