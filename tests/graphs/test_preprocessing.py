"""Resize and crop inside the graph equal those of the reference, within one level, in every runtime."""

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image

from steps.engines.contract import Images
from steps.graphs.preprocessing import ANY, FILTERS, preprocessing_graph
from steps.images.preprocessing import preprocess
from steps.reports.card import Interpolation, Preprocessing

OPSET = 20
# Pillow's pass along the width may round ties differently; the pass along the height then differs by at most one.
ONE_LEVEL = 1
Run = Callable[[Images], Any]
SIZES = [  # width, height
    (40, 50),
    (32, 32),
    (24, 32),
    (65, 64),
    (195, 192),  # 195 * 32 / 192 is 32.5: a tie
    (480, 640),
    (5, 7),
    (1, 1),
    (33, 31),
    (13, 650),  # the largest allowed aspect
    (13, 651),
    (999, 3),
    (2, 3000),
]


def how(interpolation: Interpolation, size: int = 24, resize: int = 32) -> Preprocessing:
    return Preprocessing(size=size, resize=resize, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1))


def in_onnxruntime(model: onnx.ModelProto) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda images_NHWC_u8: session.run(None, {ANY: images_NHWC_u8})[0]


def in_openvino(model: onnx.ModelProto) -> Run:
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    return lambda images_NHWC_u8: np.array(compiled(images_NHWC_u8)[0])


RUNTIMES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


@lru_cache
def runner(runtime: str, wanted: Preprocessing) -> Run:
    return RUNTIMES[runtime](preprocessing_graph(wanted, OPSET))


def noise(width: int, height: int, count: int = 1) -> Images:
    return np.random.default_rng(width * 7 + height).integers(0, 256, (count, height, width, 3), np.uint8)


def photograph(width: int, height: int) -> Images:
    """Return one image with edges, slopes and a little noise, different in each channel and on each side."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    planes = (255 * x / width, 255 * (y / height) ** 2, 255.0 * ((x // 5 + y // 7) % 2))
    rough = np.stack(planes, axis=-1) + np.random.default_rng(0).normal(0, 8, (height, width, 3))
    return rough.clip(0, 255).astype(np.uint8)[None]


def reference(images_NHWC_u8: Images, wanted: Preprocessing) -> Any:
    return np.stack([preprocess(Image.fromarray(image), wanted) for image in images_NHWC_u8]).astype(np.float32)


def apart(run: Run, images_NHWC_u8: Images, wanted: Preprocessing) -> Any:
    """Return by how many levels each number differs from the reference."""
    levels_NHWC = run(images_NHWC_u8)
    assert levels_NHWC.dtype == np.float32 and levels_NHWC.shape[1:] == (wanted.size, wanted.size, 3)
    return np.abs(levels_NHWC - reference(images_NHWC_u8, wanted))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("interpolation", FILTERS)
def test_the_levels_are_the_references_in_every_shape(runtime: str, interpolation: Interpolation) -> None:
    wanted = how(interpolation)
    found = {size: apart(runner(runtime, wanted), noise(*size), wanted) for size in SIZES}
    assert {size: levels.max() for size, levels in found.items() if levels.max() > ONE_LEVEL} == {}
    assert np.mean([(levels > 0).mean() for levels in found.values()]) < 0.02, "nearly all are the same"


@pytest.mark.parametrize("runtime", RUNTIMES)
@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    interpolation=st.sampled_from(list(FILTERS)),
    sides=st.sampled_from([(24, 32), (32, 32), (31, 50)]),
)
@example(width=2000, height=3, interpolation="bicubic", sides=(24, 32))
@example(width=1, height=77, interpolation="bilinear", sides=(31, 50))
def test_the_levels_are_the_references_at_any_size(
    runtime: str, width: int, height: int, interpolation: Interpolation, sides: tuple[int, int]
) -> None:
    wanted = how(interpolation, *sides)
    assert apart(runner(runtime, wanted), noise(width, height), wanted).max() <= ONE_LEVEL


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_each_image_of_a_batch_is_treated_alone(runtime: str) -> None:
    wanted, images_NHWC_u8 = how("bilinear"), noise(41, 57, count=3)
    assert apart(runner(runtime, wanted), images_NHWC_u8, wanted).max() <= ONE_LEVEL


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("interpolation", FILTERS)
def test_an_image_at_the_networks_size_passes_to_the_bit(runtime: str, interpolation: Interpolation) -> None:
    wanted, images_NHWC_u8 = how(interpolation, 32, 32), noise(32, 32, count=2)
    np.testing.assert_array_equal(runner(runtime, wanted)(images_NHWC_u8), images_NHWC_u8)


def constant_of(model: onnx.ModelProto, shape: tuple[int, ...], last: float) -> onnx.TensorProto:
    """Return the constant of this shape whose last number is this number."""
    alike: list[onnx.TensorProto] = [each for each in model.graph.initializer if tuple(each.dims) == shape]
    return next(tensor for tensor in alike if numpy_helper.to_array(tensor).reshape(-1)[-1] == last)


def set_to(tensor: onnx.TensorProto, values: Any) -> None:
    before = numpy_helper.to_array(tensor)
    tensor.CopyFrom(
        numpy_helper.from_array(np.broadcast_to(values, before.shape).astype(before.dtype), tensor.name)
    )


def crop_off_by_one(model: onnx.ModelProto, wanted: Preprocessing) -> None:
    kept = constant_of(model, (wanted.size, 1), wanted.size - 1)
    set_to(kept, numpy_helper.to_array(kept) + 1)


def without_antialias(model: onnx.ModelProto, wanted: Preprocessing) -> None:
    for node in model.graph.node:
        bounds = [numpy_helper.to_array(each) for each in model.graph.initializer if each.name in node.input]
        if node.op_type == "Max" and any(bound.dtype == np.float32 and bound == 1.0 for bound in bounds):
            node.op_type = "Min"  # the filter is never wider than one pixel of the image


def sides_exchanged(model: onnx.ModelProto, wanted: Preprocessing) -> None:
    """Exchange the axes height and width: everything is right except the orientation of the image."""
    node = next(
        node for node in model.graph.node if list(node.attribute and node.attribute[0].ints) == [0, 2, 3, 1]
    )
    node.attribute[0].ints[:] = [0, 3, 2, 1]


def without_half_a_pixel(model: onnx.ModelProto, wanted: Preprocessing) -> None:
    for node in model.graph.node:  # aligns corners in place of centres
        for tensor in model.graph.initializer:
            half = tuple(tensor.dims) == () and numpy_helper.to_array(tensor) == 0.5
            if half and node.op_type == "Sub" and tensor.name in node.input:
                set_to(tensor, 0.0)


MUTANTS: dict[str, tuple[Callable[[onnx.ModelProto, Preprocessing], None], Images]] = {
    "crop_off_by_one": (crop_off_by_one, photograph(80, 60)),
    "without_antialias": (without_antialias, photograph(160, 120)),
    "sides_exchanged": (sides_exchanged, photograph(80, 60)),
    "without_half_a_pixel": (without_half_a_pixel, photograph(80, 60)),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_fault_is_seen_as_more_than_a_level(runtime: str, interpolation: Interpolation, mutant: str) -> None:
    wanted = how(interpolation)
    fault, images_NHWC_u8 = MUTANTS[mutant]
    sound, faulty = preprocessing_graph(wanted, OPSET), preprocessing_graph(wanted, OPSET)
    fault(faulty, wanted)
    assert faulty.SerializeToString() != sound.SerializeToString()
    assert apart(RUNTIMES[runtime](sound), images_NHWC_u8, wanted).max() <= ONE_LEVEL
    assert apart(RUNTIMES[runtime](faulty), images_NHWC_u8, wanted).max() > 5 * ONE_LEVEL


@pytest.mark.parametrize(("used", "wanted"), [("bilinear", "bicubic"), ("bicubic", "bilinear")])
def test_another_filter_is_seen_as_more_than_a_level(used: Interpolation, wanted: Interpolation) -> None:
    found = apart(runner("onnxruntime", how(used)), photograph(80, 60), how(wanted))
    assert found.max() > 5 * ONE_LEVEL


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="the package tensorrt_rtx is not installed")
@pytest.mark.parametrize("interpolation", FILTERS)
def test_the_parser_of_tensorrt_takes_it(interpolation: Interpolation) -> None:
    import tensorrt_rtx as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(preprocessing_graph(how(interpolation), OPSET).SerializeToString())
    assert parsed, [str(parser.get_error(index)) for index in range(parser.num_errors)]
    assert tuple(network.get_input(0).shape) == (-1, -1, -1, 3)
    assert tuple(network.get_output(0).shape) == (-1, 24, 24, 3)
