"""A tiny exported model: two convolutions and a head, as ONNX and as torch functions of the same weights."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import polars as pl
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch.nn import functional

from steps.engines.contract import Images
from steps.images.evaluation_cache import kept_batches
from steps.images.manifest import SCHEMA, write_manifest
from steps.params.build import BuildParams, Int8Params
from steps.reports.artifact import write_card
from steps.reports.card import Card, Preprocessing
from steps.reports.classes import Classes
from steps.reports.ingest import IngestReport
from tests.reference_params import REFERENCE

SIZE = 16
NAMES = ("ant", "bee", "cat", "dog")
HOW = Preprocessing(size=SIZE, resize=SIZE, interpolation="bilinear", mean=(0.5, 0.45, 0.4), std=(0.25, 0.2, 0.3))
ROOT = Path(__file__).parent.parent.parent
ANY_CLASS = BuildParams(int8=Int8Params(min_agreement=0.0))  # an untrained network is not sure of any class
Weights = dict[str, npt.NDArray[np.float32]]


def weights(seed: int = 0) -> Weights:
    """Return random weights of the tiny network for this seed."""
    random = np.random.default_rng(seed)
    shapes = {
        "w1": (8, 3, 3, 3),
        "b1": (8,),
        "w2": (16, 8, 3, 3),
        "b2": (16,),
        "w3": (len(NAMES), 16),
        "b3": (len(NAMES),),
    }
    drawn = {name: random.standard_normal(shape).astype(np.float32) * 0.3 for name, shape in shapes.items()}
    drawn["mean"] = (np.array(HOW.mean) * 255).astype(np.float32)
    drawn["std"] = (np.array(HOW.std) * 255).astype(np.float32)
    return drawn


def reference(images_NHWC_u8: npt.NDArray[np.uint8], by: Weights) -> npt.NDArray[np.float32]:
    """Return the logits of the network, computed by torch in float64."""
    t = {name: torch.from_numpy(value).double() for name, value in by.items()}
    x = ((torch.from_numpy(images_NHWC_u8).double() - t["mean"]) / t["std"]).permute(0, 3, 1, 2)
    x = functional.conv2d(x, t["w1"], t["b1"], padding=1).relu()
    x = functional.conv2d(x, t["w2"], t["b2"], padding=1, stride=2).relu()
    logits: npt.NDArray[np.float32] = functional.linear(x.mean((2, 3)), t["w3"], t["b3"]).float().numpy()
    return logits


def onnx_model(by: Weights, names: tuple[str, ...] = NAMES) -> onnx.ModelProto:
    """Return the network as a graph with a dynamic batch, with `names` in its metadata."""
    nodes = [
        helper.make_node("Cast", ["images_NHWC_u8"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["real", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits_NK"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images_NHWC_u8", TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("logits_NK", TensorProto.FLOAT, ["batch", len(by["b3"])])],
        [numpy_helper.from_array(value, name) for name, value in by.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"class_names": json.dumps(names)})
    onnx.checker.check_model(model)
    return model


def clipped(by: Weights, most: float = 6.0) -> onnx.ModelProto:
    """Return the network with ReLU6 for ReLU: the first has bounds in weights, the second from nodes."""
    model = onnx_model(by)
    nodes = model.graph.node
    bounds = {"low": np.array(0, np.float32), "high": np.array(most, np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in bounds.items())
    for name, value in bounds.items():
        tensor = numpy_helper.from_array(value, f"{name}_2")
        nodes.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    for node, suffix in zip([node for node in nodes if node.op_type == "Relu"], ("", "_2"), strict=True):
        node.op_type = "Clip"
        node.input.extend(name + suffix for name in bounds)
    onnx.checker.check_model(model, full_check=True)
    return model


def padded_with_infinity(by: Weights) -> onnx.ModelProto:
    """Return the network with a max pooling that pads as TensorFlow's SAME does: with minus infinity."""
    model = onnx_model(by)
    constants = {"border": np.array([0, 0, 0, 0, 0, 0, 1, 1]), "lowest": np.array(-np.inf, np.float32)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    (second,) = [node for node in model.graph.node if "w2" in node.input]
    place = list(model.graph.node).index(second)
    model.graph.node.insert(place, helper.make_node("Pad", ["r1", "border", "lowest"], ["padded"]))
    pool = helper.make_node("MaxPool", ["padded"], ["m1"], kernel_shape=[3, 3], strides=[2, 2])
    model.graph.node.insert(place + 1, pool)
    second.input[0] = "m1"
    onnx.checker.check_model(model, full_check=True)
    return model


def not_finite(score: float) -> onnx.ModelProto:
    """Return the network with one score fixed at `score`, whatever the image."""
    by = weights()
    by["b3"][1] = score
    return onnx_model(by)


def probe_images(count: int = 7) -> npt.NDArray[np.uint8]:
    """Return images_NHWC_u8 of smooth blobs; the index of an image decides its content."""
    random = np.random.default_rng(count)
    coarse = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(SIZE // 4, axis=1).repeat(SIZE // 4, axis=2)


def write_exported(folder: Path, model: onnx.ModelProto, names: tuple[str, ...] = NAMES) -> Card:
    """Write a model folder such as export does, and return its card."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    images = probe_images()
    labels = np.zeros(len(images), np.int64)
    np.savez(folder / "probes.npz", images_NHWC_u8=images, names=np.array(["x"] * len(images)), labels=labels)
    return seal(folder, names)


def seal(folder: Path, names: tuple[str, ...] = NAMES, backend: str = "onnxruntime") -> Card:
    """Write the card that matches the present files."""
    card = Card(
        form="export",
        arch="tiny",
        class_num=len(names),
        class_names=names,
        preprocessing=HOW,
        fused=True,
        backend=backend,
        files={},
        artifact="",
        made_from=hashlib.sha256(b"fuse").hexdigest(),
        versions={"torch": torch.__version__},
    )
    return write_card(folder, card)


def write_images(root: Path, count: int = 40, names: tuple[str, ...] = NAMES) -> None:
    """Write root/ingest and root/split: `count` PNG files, four fifths of them in train, the rest in test."""
    (root / "files").mkdir(parents=True)
    rows = []
    for number, image_HWC_u8 in enumerate(probe_images(count)):
        file = root / "files" / f"{number:03}.png"
        Image.fromarray(image_HWC_u8).save(file)
        row = dict.fromkeys(SCHEMA) | {"name": file.name, "file": file.name, "offset": 0, "faults": []}
        content = file.read_bytes()
        row |= {"length": len(content), "checksum": hashlib.sha256(content).hexdigest()}
        row |= {"label": number % len(names)}
        rows.append(row | {"split": "test" if number % 5 == 4 else "train"})
    (root / "split").mkdir()
    write_manifest(pl.DataFrame(rows, schema=SCHEMA), root / "split/manifest.parquet")
    IngestReport(root=str(root / "files")).write(root / "ingest/report.json")
    Classes(names=dict(enumerate(names))).write(root / "ingest/classes.json")


def swap_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a fault: evaluate's preprocessing gives BGR to a network that expects RGB."""

    def swapped(*arguments: Any, **keywords: Any) -> Iterator[Images]:
        for images_NHWC_u8 in kept_batches(*arguments, **keywords):
            yield images_NHWC_u8[..., ::-1]

    monkeypatch.setattr("steps.evaluate.kept_batches", swapped)


def run_step_in(folder: Path, step: str, flags: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a step's command line in `folder`, with the reference params."""
    arguments = [text for name, value in flags.items() for text in (f"--{name}", value)]
    command = [sys.executable, "-m", f"steps.{step}", "--params", str(REFERENCE), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
