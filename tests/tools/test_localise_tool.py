"""localise: the first tensor where two forms differ is named, with the usual cause."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import numpy_helper

import tools.localise
from benchmarks.planted import graphs
from benchmarks.planted.places import Change
from steps.backends.runner import open_runner
from steps.building.engine import Target, build_engine
from steps.engines.contract import BatchRange, Runner
from steps.errors import BadInput
from steps.export import export
from steps.files import sha256
from steps.fuse import fuse
from steps.metrics.scores import keep, write_scores
from steps.pages.localisation import page
from steps.params.export import ExportParams
from steps.params.fuse import FuseParams
from steps.reports.artifact import CARD, write_card
from steps.reports.card import Card
from steps.reports.evaluate import FormReport
from tests.backends.tiny import NAMES, onnx_model, padded_with_infinity, probe_images, weights, write_exported
from tests.models.artifacts import write_trained
from tests.tools.drifting import ENGINE, build, make_exported
from tools.localise import localise, main


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_exported(tmp_path, monkeypatch)


def last_weight(change: Callable[[graphs.Array], graphs.Array]) -> Change:
    return initializer("w3", change)


def initializer(name: str, change: Callable[[graphs.Array], graphs.Array]) -> Change:
    def changed(model: onnx.ModelProto) -> onnx.ModelProto:
        (found,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
        found.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(found).copy()), name))
        return model

    return changed


@pytest.mark.parametrize(
    ("change", "name", "means"),
    [
        (initializer("mean", lambda mean: mean + 9), "centred", "mean, deviation"),
        (initializer("w1", lambda weight: weight[:, ::-1].copy()), "c1", "channels swapped"),
        (graphs.without("Relu", 1), "pooled", "computes the operator differently"),
        (initializer("w2", np.negative), "c2", "This layer has other weights"),
        (last_weight(lambda weight: np.roll(weight, 1, 0)), "logits_NK", "class order"),
        (initializer("w2", np.zeros_like), "c2", "the same values for all images"),
        (initializer("b2", lambda bias: bias * np.float32("nan")), "c2", "a value that is not finite"),
    ],
)
def test_the_first_tensor_that_drifts_is_named_with_its_meaning(
    root: Path, change: Change, name: str, means: str
) -> None:
    build(root, change)
    found = localise(ENGINE, root / "data", 4)
    assert found.first is not None
    assert found.first.name == name
    assert means in found.meaning


def test_what_lies_beyond_float16_is_called_an_overflow(root: Path) -> None:
    build(root, initializer("w2", lambda weight: weight * np.float32("inf")), "onnxruntime-fp16", precision="fp16")
    assert "65504" in localise("onnxruntime-fp16", root / "data", 4).meaning


def test_the_infinity_that_a_pooling_is_padded_with_is_no_drift_and_the_rest_is_compared(root: Path) -> None:
    write_exported(root / "data/export/model", padded_with_infinity(weights()))
    build(root, lambda model: model)
    found = localise(ENGINE, root / "data", 4)
    (padded,) = [drift for drift in found.compared if drift.name == "padded"]
    assert found.first is None and padded.finite and not padded.constant
    assert padded.error == 0 and 0 < padded.largest < np.inf
    build(root, initializer("b1", lambda bias: bias + 1), "openvino-fp32")
    moved = {drift.name: drift for drift in localise("openvino-fp32", root / "data", 4).compared}
    assert 0.01 < moved["padded"].error < np.inf and moved["padded"].finite


def test_an_infinity_where_the_other_form_has_none_is_a_drift(root: Path) -> None:
    write_exported(root / "data/export/model", padded_with_infinity(weights()))
    build(root, initializer("lowest", lambda _: np.array(np.inf, np.float32)))
    build(root, initializer("lowest", lambda _: np.array(-9, np.float32)), "openvino-fp32")
    other, without = (localise(form, root / "data", 4) for form in (ENGINE, "openvino-fp32"))
    for found in (other, without):
        assert found.first is not None and found.first.name == "padded" and found.first.error == np.inf
        assert found.first.finite, "it is wherever the reference is"
    assert "finite where the other is not" in without.sentence


def test_forms_that_compute_the_same_are_said_to(root: Path) -> None:
    build(root, lambda model: model)
    found = localise(ENGINE, root / "data", 4)
    assert found.first is None
    assert "not the network" in found.meaning and "none of 11 tensors" in found.sentence


def test_an_engine_that_runs_otherwise_than_its_graph_is_not_acquitted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's tensors are right, because a request for tensors leaves its layers unfused."""
    build(root, lambda model: model)
    opened = open_runner

    def saturating(folder: Path) -> tuple[Runner, Card]:
        run, card = opened(folder)
        return lambda images_NHWC_u8: np.minimum(run(images_NHWC_u8), 0.1), card

    monkeypatch.setattr(tools.localise, "open_runner", saturating)
    found = localise(ENGINE, root / "data", 4)
    assert found.first is None and "not the network" not in found.sentence
    assert "the runtime's fused kernels compute something else" in found.meaning
    assert f"grows most at '{max(found.compared, key=lambda drift: drift.error).name}'" in found.meaning


def test_an_openvino_engine_shows_its_tensors_too(root: Path) -> None:
    """The engine is built from a graph with a different second layer, as a faulty builder would build it."""
    right = root / "data/export/model"
    shutil.copytree(right, root / "wrong")
    model = initializer("w2", np.negative)(onnx.load(right / "model.onnx"))
    write_exported(root / "wrong", model)
    out = root / "data/build/openvino-fp32"
    out.mkdir(parents=True)
    build_engine(Target("openvino", "fp32", BatchRange(1, 1, 8), ()), root / "wrong", out, None)
    shutil.copyfile(right / "probes.npz", out / "probes.npz")
    card = Card.read(right / CARD).model_copy(update={"form": "openvino-fp32", "backend": "openvino"})
    write_card(out, card)
    found = localise("openvino-fp32", root / "data", 4)
    assert found.first is not None and found.first.name == "c2"


def test_the_first_convolution_of_an_export_is_compared_though_it_took_the_normalisation(root: Path) -> None:
    train, fused, exported = root / "data/train/model", root / "data/fuse", root / "data/export"
    write_trained(train)
    fuse(FuseParams(), 0, train, fused)
    shutil.rmtree(exported)
    exported.mkdir()
    export(ExportParams(), 0, fused / "model", exported)
    right = localise("export", root / "data", 4)
    assert right.first is None
    file = exported / "model/model.onnx"
    (first,) = [tensor.name for tensor in onnx.load(file).graph.initializer if tensor.name.endswith(".of_pixels")]
    layer = first.removeprefix("network.").removesuffix(".weight.of_pixels")
    assert layer in {drift.layer for drift in right.compared}
    onnx.save(initializer(first, lambda weight: weight[:, ::-1].copy())(onnx.load(file)), file)
    write_card(exported / "model", Card.read(exported / "model" / CARD))
    found = localise("export", root / "data", 4)
    assert found.first is not None and found.first.layer == layer
    assert "channels swapped" in found.meaning


def test_a_wrong_fold_is_found_at_its_module(root: Path) -> None:
    from steps.models.files import load_model, load_probes, save_model

    train, fused = root / "data/train/model", root / "data/fuse"
    write_trained(train)
    fuse(FuseParams(), 0, train, fused)
    assert localise("fuse", root / "data", 4).first is None
    network, card = load_model(fused / "model")
    name = next(name for name, _ in network.named_parameters() if name.startswith("body.stage1.0"))
    network.get_parameter(name).data.mul_(1.5)
    save_model(fused / "model", network, card, load_probes(fused / "model"))
    found = localise("fuse", root / "data", 4)
    assert found.first is not None and found.first.name.startswith("body.stage1.0")
    assert "The fold of this site is wrong" in found.meaning


def test_the_images_shown_are_those_whose_scores_differ_most(root: Path) -> None:
    build(root, initializer("w2", np.negative))
    names = [f"{number:03}.png" for number in range(4, 40, 5)]
    (root / "data/evaluate").mkdir()
    for form, wrong in (("export", 0), (ENGINE, 6)):
        scores = np.zeros((len(names), len(NAMES)), np.float32)
        scores[wrong, 2] = wrong
        images = pl.DataFrame({"id": names, "label": [0] * len(names), "checksum": names})
        path = root / f"data/evaluate/{form}.parquet"
        write_scores(path, images, keep(scores))
        card = Card.read(root / "data/export/model" / CARD)
        FormReport(form=form, card=card, scores_checksum=sha256(path)).write(path.with_suffix(".json"))
    found = localise(ENGINE, root / "data", 3)
    assert found.worst[0].name == names[6]
    assert found.worst[0].of_form[0][0] == 2
    np.testing.assert_array_equal(found.images_NHWC_u8[0], probe_images(40)[34])


def test_the_page_loads_nothing_and_no_name_breaks_out_of_it(root: Path) -> None:
    hostile = ("<script>alert(1)</script>", *NAMES[1:])
    write_exported(root / "data/export/model", onnx_model(weights(), hostile), hostile)
    build(root, initializer("w2", np.negative))
    text = page(localise(ENGINE, root / "data", 2)).decode()
    assert "<script" not in text and "http" not in text and 'src="data:image/png;base64,' in text
    assert "class='first over'" in text


def test_the_command_line_prints_the_sentence_and_writes_the_page(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    build(root, initializer("w2", np.negative))
    monkeypatch.setattr("sys.argv", ["localise", ENGINE])
    main()
    assert f"{ENGINE}: 'c2' (Conv) is the first tensor that drifts from export" in capsys.readouterr().out
    assert (root / f".foldline/localise/{ENGINE}.html").is_file()


@pytest.mark.parametrize(
    ("form", "message"), [("train", "made from no other form"), ("nope", "there is no form 'nope'")]
)
def test_a_form_that_is_not_there_is_refused_with_those_that_are(root: Path, form: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        localise(form, root / "data", 4)
