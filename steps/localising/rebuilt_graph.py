"""The graph that an engine was built from, written again in its precision, and the tensors of this graph."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch

from steps.backends.intermediates import read_tensors
from steps.building.precision import write_graph
from steps.engines.contract import CannotBuild, Images
from steps.engines.intermediate import Intermediate, is_real, layer_of
from steps.errors import BadInput
from steps.graphs.torch_module import read_module
from steps.reports.artifact import CARD, PROBES, write_card
from steps.reports.card import Card

GRAPH = "model.onnx"


def tensors_of_graph(engine: Path, exported: Path, images_NHWC_u8: Images) -> list[Intermediate]:
    """Return the tensors of the graph that the engine was built from, without the engine's resize.

    ONNX Runtime computes the tensors; PyTorch computes bfloat16. Raises BadInput for int8, because the images of
    the calibration are not stored, and where the graph cannot be written or read.
    """
    card = Card.read(engine / CARD)
    if card.precision == "int8":
        raise BadInput(
            f"the tensors of {card.form} cannot be read, and its graph cannot be written again without the "
            "images of the calibration; build onnxruntime-int8, which has the same graph, and localise "
            "onnxruntime-int8."
        )
    try:
        with tempfile.TemporaryDirectory() as scratch:
            _write(card, exported, Path(scratch))
            if card.precision == "bf16":
                return _by_pytorch(Path(scratch) / GRAPH, images_NHWC_u8)
            return read_tensors(Path(scratch), images_NHWC_u8)
    except CannotBuild as reason:
        raise BadInput(f"the graph that {card.form} was built from cannot be written again: {reason}") from reason


def _write(card: Card, exported: Path, out: Path) -> None:
    write_graph(exported / GRAPH, out / GRAPH, card.precision, None)
    shutil.copyfile(exported / PROBES, out / PROBES)
    write_card(out, card.model_copy(update={"backend": "onnxruntime", "takes": "sized", "max_side": None}))


@torch.inference_mode()
def _by_pytorch(graph: Path, images_NHWC_u8: Images) -> list[Intermediate]:
    module = read_module(graph, "localise")
    values = module.values(torch.from_numpy(np.ascontiguousarray(images_NHWC_u8)))
    found: list[Intermediate] = []
    for kind, _, inputs, outputs in module.nodes:
        for name in outputs:
            value = values.get(name)
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                values_N = value.float().numpy()
                if is_real(values_N, len(images_NHWC_u8)):
                    found.append(Intermediate(name, kind, layer_of(list(inputs)), values_N))
    return found
