"""Preprocessing inside the graph: how near it is to Pillow's, what it costs, and what folding saves.

    python -m benchmarks.preprocessing [--full] [--write]

Resize and crop run alone, in ONNX Runtime and OpenVINO, on noise of random sizes (up to 700 pixels a side, one in
ten very long), and every number is held against the reference. Costs are CPU times of this process on one thread,
in turns: the graph against the reference at 640 x 480, and networks at 224 pixels with their normalisation of
interleaved pixels, of planes (as the exporter writes it), and folded. `--full` takes 3,000 sizes for each filter
in place of 150.
"""

import statistics
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from PIL import Image

from benchmarks.bounds import Figure, command_line, report
from steps.backends.interleaved_timing import take_turns
from steps.engines.contract import Images
from steps.graphs import exporting as onnx_graph
from steps.graphs.normalisation import fold_normalisation
from steps.graphs.preprocessing import FILTERS, preprocessing_graph
from steps.images.preprocessing import preprocess
from steps.models.architectures import create
from steps.models.normalised import Normalised
from steps.reparam.fold import absorb_norms
from steps.reports.card import Card, Interpolation, Preprocessing

Run = Callable[[Images], Any]
OPSET, SIZE, CLASSES, ROUNDS = 20, 224, 1000, 40
MOST_LEVELS, LEAST_IDENTICAL = 1, 0.99
MOST_OF_PILLOW = 5.0  # 1.8 to 2.6 were measured
LEAST_SAVED = 0.97  # of the time without folding: none of it may be lost, and turns are not exact
NETWORKS = ("repvgg_a0_plain", "mobileone_s0_plain")


def main() -> None:
    """Measure all of it and report."""
    parser = command_line("preprocessing", __doc__)
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    count = 3000 if arguments.full else 150
    figures = [figure for filter_ in FILTERS for figure in nearness(filter_, count) + cost(filter_)]
    report([*figures, *(figure for arch in NETWORKS for figure in saved(arch))], arguments)


def in_onnxruntime(model: onnx.ModelProto) -> Run:
    """Return a call of the model on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    return lambda images_NHWC_u8: session.run(None, {source.name: images_NHWC_u8})[0]


def in_openvino(model: onnx.ModelProto) -> Run:
    """Return a call of the model on one thread, in float32."""
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    return lambda images_NHWC_u8: np.array(compiled(images_NHWC_u8)[0])


WAYS = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def nearness(interpolation: Interpolation, count: int) -> list[Figure]:
    """Return the largest difference from the reference over random sizes, and the share of equal numbers."""
    how = _how(interpolation, size=56, resize=64)
    runs = {name: way(preprocessing_graph(how, OPSET)) for name, way in WAYS.items()}
    random = np.random.default_rng(0)
    worst, equal = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, 0.0)
    for number in range(count):
        width, height = (int(side) for side in random.integers(1, 701, 2))
        width = max(1, height // 60) if number % 10 == 0 else width
        image_HWC_u8 = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        wanted_HWC = preprocess(Image.fromarray(image_HWC_u8), how).astype(np.float32)
        for name, run in runs.items():
            apart_HWC = np.abs(run(image_HWC_u8[None])[0] - wanted_HWC)
            worst[name] = max(worst[name], float(apart_HWC.max()))
            equal[name] += float((apart_HWC == 0).mean()) / count
    return [
        figure
        for name in runs
        for figure in (
            Figure(
                f"{interpolation}, {name}: levels from Pillow's, {count} sizes",
                worst[name],
                "at most",
                MOST_LEVELS,
            ),
            Figure(f"{interpolation}, {name}: share of equal numbers", equal[name], "at least", LEAST_IDENTICAL),
        )
    ]


def cost(interpolation: Interpolation) -> list[Figure]:
    """Return how much longer the graph takes than the reference, for one image of 640 x 480."""
    how = _how(interpolation, SIZE, 256)
    image_HWC_u8 = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    graphs = {name: way(preprocessing_graph(how, OPSET)) for name, way in WAYS.items()}
    runs: dict[str, Callable[[], object]] = {
        name: partial(run, image_HWC_u8[None]) for name, run in graphs.items()
    }
    spent = _cpu({"reference": lambda: preprocess(Image.fromarray(image_HWC_u8), how), **runs})
    title = f"{interpolation} at 640 x 480, CPU time over Pillow's ({spent['reference']:.2f} ms)"
    return [
        Figure(f"{title}: {name}", spent[name] / spent["reference"], "at most", MOST_OF_PILLOW) for name in graphs
    ]


def saved(arch: str) -> list[Figure]:
    """Return the CPU time of the network with its normalisation done otherwise, over that with it folded."""
    torch.manual_seed(0)
    network = absorb_norms(create(arch, CLASSES, SIZE).eval(), torch.zeros(1, 3, SIZE, SIZE))
    with mock.patch.object(onnx_graph, "fold_normalisation", lambda model: model):
        planes = onnx_graph.simplified(onnx_graph.to_onnx(network, _card(arch), OPSET))
        with mock.patch.object(Normalised, "normalise", _interleaved):
            interleaved = onnx_graph.simplified(onnx_graph.to_onnx(network, _card(arch), OPSET))
    images_NHWC_u8 = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8)
    graphs = {"interleaved": interleaved, "planes": planes, "folded": fold_normalisation(planes)}
    runs = {(name, form): way(graph) for name, way in WAYS.items() for form, graph in graphs.items()}
    spent = _cpu({key: partial(run, images_NHWC_u8) for key, run in runs.items()})
    return [
        Figure(
            f"{arch}, {name}: CPU time with the normalisation of {form} over folded",
            spent[name, form] / spent[name, "folded"],
            "at least",
            LEAST_SAVED,
        )
        for name in WAYS
        for form in ("interleaved", "planes")
    ]


def _interleaved(self: Normalised, images_NHWC_u8: torch.Tensor) -> torch.Tensor:
    offset_C, scale_C = self.offset_C11.flatten(), self.scale_C11.flatten()
    return ((images_NHWC_u8.float() - offset_C) / scale_C).permute(0, 3, 1, 2).contiguous()


def _cpu(runs: dict[Any, Callable[[], object]]) -> dict[Any, float]:
    """Return the median CPU milliseconds of each."""
    return {key: statistics.median(call.cpu for call in calls) for key, calls in take_turns(runs, ROUNDS).items()}


def _how(interpolation: Interpolation, size: int, resize: int) -> Preprocessing:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Preprocessing(size=size, resize=resize, interpolation=interpolation, mean=mean, std=std)


def _card(arch: str) -> Card:
    names = tuple(map(str, range(CLASSES)))
    how = _how("bilinear", SIZE, SIZE)
    return Card(
        form="export", arch=arch, class_num=CLASSES, class_names=names, preprocessing=how, files={}, artifact=""
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
