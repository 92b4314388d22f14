"""Export writes a graph that describes itself and gives the same results at any batch size, or refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from steps import export as step
from steps.backends.runner import open_runner
from steps.errors import BadInput, Refused
from steps.export import export
from steps.fuse import fuse
from steps.graphs.exporting import described
from steps.models.files import load_classifier
from steps.params.export import ExportParams
from steps.params.fuse import FuseParams
from steps.reparam.certify import exceeds, relative_error
from steps.reports.artifact import write_card
from steps.reports.card import Card
from steps.reports.certificate import Certificate, CertificateRow
from tests.models.artifacts import HOW, NAMES, SIZE, write_trained

PARAMS = ExportParams()


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fused")
    write_trained(folder / "trained")
    fuse(FuseParams(), 0, folder / "trained", folder)
    return folder / "model"


@pytest.fixture(scope="module")
def exported(fused: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported")
    export(PARAMS, 0, fused, out)
    return out


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_graph_takes_any_number_of_images(exported: Path, batch: int) -> None:
    run, _ = open_runner(exported / "model")
    images = np.random.default_rng(1).integers(0, 256, (batch, SIZE, SIZE, 3), dtype=np.uint8)
    logits = run(images)
    assert logits.shape == (batch, len(NAMES)) and logits.dtype == np.float32


def test_the_certificate_shows_every_batch_size_and_the_real_images(exported: Path) -> None:
    certificate = Certificate.read(exported / "certificate.json")
    assert {(row.site.rpartition(" ")[2], row.probes) for row in certificate.rows} == {
        ("1", "random"),
        ("2", "random"),
        ("7", "random"),
        ("3", "real"),
    }
    assert all(row.error is not None and row.error <= row.bound for row in certificate.rows)


def test_the_graph_describes_itself(exported: Path, fused: Path) -> None:
    model = onnx.load(exported / "model" / "model.onnx")
    message = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert message == {"class_names": list(NAMES), "preprocessing": HOW.model_dump(mode="json")}
    card = Card.read(exported / "model" / "card.json")
    assert (card.form, card.backend, card.class_names) == ("export", "onnxruntime", NAMES)
    assert card.made_from == Card.read(fused / "card.json").artifact


def test_the_graph_is_plain_and_takes_bytes(exported: Path) -> None:
    graph = onnx.load(exported / "model" / "model.onnx").graph
    assert not {"BatchNormalization", "Identity", "Div"} & {node.op_type for node in graph.node}
    assert [node.op_type for node in graph.node][:4] == ["Cast", "Transpose", "Sub", "Conv"]
    (source,), (target,) = graph.input, graph.output
    assert source.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    shapes = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (source, target)]
    assert shapes == [["N", SIZE, SIZE, 3], ["N", len(NAMES)]]


def test_nothing_in_the_graph_tells_where_it_was_made(exported: Path) -> None:
    content = (exported / "model" / "model.onnx").read_bytes()
    for trace in (b".py", b"site-packages", str(Path.cwd()).encode(), b"stack_trace"):
        assert trace not in content


def test_equal_inputs_give_equal_bytes(exported: Path, fused: Path, tmp_path: Path) -> None:
    export(PARAMS, 0, fused, tmp_path)
    for file in ("certificate.json", "model/model.onnx", "model/card.json", "model/probes.npz"):
        assert (tmp_path / file).read_bytes() == (exported / file).read_bytes()


def test_a_graph_that_computes_something_else_is_refused(
    fused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_class_order(graph: onnx.ModelProto, card: Card) -> onnx.ModelProto:
        for tensor in graph.graph.initializer:
            if tensor.name.endswith("head.bias"):
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), tensor.name))
        return described(graph, card)

    monkeypatch.setattr(step, "described", other_class_order)
    with pytest.raises(Refused, match=r"differs by .* export\.max_error allows 0\.0001") as refusal:
        export(PARAMS, 0, fused, tmp_path)
    assert isinstance(refusal.value.report, Certificate)
    assert list(tmp_path.iterdir()) == []


def test_an_infinite_logit_is_within_no_bound_of_the_same_infinity() -> None:
    infinite_NK = torch.tensor([[1.0, torch.inf]])
    error = relative_error(infinite_NK, infinite_NK)
    assert exceeds(CertificateRow(site="whole network", precision="fp32", probes="real", error=error, bound=1.0))


def test_an_invalid_graph_is_no_artifact(fused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: onnx.ModelProto, card: Card) -> onnx.ModelProto:
        graph.graph.node[0].op_type = "NoSuchOperator"
        return described(graph, card)

    monkeypatch.setattr(step, "described", broken)
    with pytest.raises(Refused, match="no valid ONNX"):
        export(PARAMS, 0, fused, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_graph_that_is_not_its_cards_is_refused(
    fused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(graph: onnx.ModelProto, card: Card) -> onnx.ModelProto:
        return described(graph, card.model_copy(update={"class_names": card.class_names[::-1]}))

    monkeypatch.setattr(step, "described", swapped)
    with pytest.raises(Refused, match="names its classes"):
        export(PARAMS, 0, fused, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_graph_with_another_class_order_is_not_run(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (exported / "model").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    card = Card.read(folder / "card.json")
    swapped: dict[str, Any] = {"class_names": (card.class_names[1], card.class_names[0], *card.class_names[2:])}
    graph = onnx.load(folder / "model.onnx")
    onnx.save(described(graph, card.model_copy(update=swapped)), folder / "model.onnx")
    write_card(folder, card)
    with pytest.raises(BadInput, match="names its classes bee, ant"):
        open_runner(folder)


def test_unsimplified_graphs_compute_the_same(fused: Path, tmp_path: Path) -> None:
    export(PARAMS.model_copy(update={"simplify": "none"}), 0, fused, tmp_path)
    run, _ = open_runner(tmp_path / "model")
    network, _ = load_classifier(fused)
    images = np.zeros((2, SIZE, SIZE, 3), dtype=np.uint8)
    assert run(images).shape == tuple(network(torch.from_numpy(images)).shape)
