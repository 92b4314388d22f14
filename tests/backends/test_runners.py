"""One contract for every backend: the same images give the same logits, in the same order, at any batch size."""

import os
import sys
from pathlib import Path

import numpy as np
import openvino
import pytest

from steps.backends.latency import BATCHES, measure_latency
from steps.backends.runner import backend_module, open_runner
from steps.build import build
from steps.engines.contract import CannotRunHere, MissingPackage, WrongFile, WrongImages
from steps.engines.names import BACKENDS, ENGINES, parse_engine
from steps.errors import BadInput
from steps.params.build import BuildParams
from steps.reports.artifact import FACTS, PROBES
from steps.reports.build import EngineFacts
from steps.reports.card import Card
from tests.backends.tiny import (
    ANY_CLASS,
    NAMES,
    SIZE,
    onnx_model,
    probe_images,
    reference,
    seal,
    weights,
    write_exported,
    write_images,
)

# Relative to the largest logit: float32 sums run in another order; float16 has 3 decimal digits, bfloat16 has 2;
# int8 has 256 steps a tensor.
TOLERANCE = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 2e-2, "int8": 5e-2}
HAS_BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
ON_CPU = [
    engine
    for engine in ENGINES
    if BACKENDS[parse_engine(engine)[0]].device == "cpu" and (HAS_BF16 or engine != "openvino-bf16")
]
QUICK = [engine for engine in ON_CPU if not engine.startswith("aotinductor")]
EACH = [engine if engine in QUICK else pytest.param(engine, marks=pytest.mark.slow) for engine in ON_CPU]
SWAPPED = (NAMES[1], NAMES[0], *NAMES[2:])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an exported model and those CPU engines that are quick to build."""
    root = tmp_path_factory.mktemp("engines")
    write_exported(root / "model", onnx_model(weights()))
    write_images(root)
    for engine in QUICK:
        built_in(root, engine)
    return root


def built_in(root: Path, engine: str) -> Path:
    """Return the engine's folder; build the engine if it does not exist yet."""
    if not (root / engine).is_dir():
        (root / engine).mkdir()
        build(ANY_CLASS, 0, engine, root / "model", root / "ingest", root / "split", root / engine)
    return root / engine


@pytest.mark.parametrize("engine", EACH)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_every_engine_answers_as_the_network_does(built: Path, engine: str, batch: int) -> None:
    run, card = open_runner(built_in(built, engine))
    images_NHWC_u8 = probe_images(7)[:batch]
    wanted_NK = reference(images_NHWC_u8, weights())
    logits_NK = run(images_NHWC_u8)
    assert logits_NK.dtype == np.float32
    assert logits_NK.shape == wanted_NK.shape
    assert np.abs(logits_NK - wanted_NK).max() <= TOLERANCE[card.precision] * np.abs(wanted_NK).max()


@pytest.mark.parametrize("engine", EACH)
def test_the_row_of_an_image_does_not_depend_on_its_place_in_the_batch(built: Path, engine: str) -> None:
    run, _ = open_runner(built_in(built, engine))
    images_NHWC_u8 = probe_images(7)
    forward_NK, backward_NK = run(images_NHWC_u8), run(images_NHWC_u8[::-1])
    np.testing.assert_allclose(forward_NK, backward_NK[::-1], rtol=0, atol=1e-5 * np.abs(forward_NK).max())
    assert np.ptp(forward_NK, axis=0).max() > 100 * TOLERANCE["fp32"], (
        "the images must differ for this to say much"
    )


IMAGES = probe_images(2)
NO_IMAGES = {
    "none at all": IMAGES[:0],
    "floats": IMAGES.astype(np.float32),
    "floats from 0 to 1": IMAGES / 255,
    "grey": IMAGES[..., :1],
    "with alpha": IMAGES[..., [0, 1, 2, 2]],
    "channels first": IMAGES.transpose(0, 3, 1, 2),
    "no batch": IMAGES[0],
    "a pixel too wide": np.pad(IMAGES, ((0, 0), (0, 0), (0, 1), (0, 0))),
    "a pixel": IMAGES[:, :1, :1],
    "a list": IMAGES.tolist(),
}


@pytest.mark.parametrize("engine", EACH)
def test_what_are_no_images_of_the_card_is_refused_in_one_sentence_by_every_engine(
    built: Path, engine: str
) -> None:
    """Unchecked, compiled code read beyond a 1-pixel image, and OpenVINO took floats in 0..1 for bytes."""
    run, _ = open_runner(built_in(built, engine))
    for named, images in NO_IMAGES.items():
        with pytest.raises(WrongImages) as message:
            run(images)
        assert f"{engine} takes one or more RGB images as uint8 of the shape N x 16 x 16 x 3" in str(
            message.value
        ), named


@pytest.mark.parametrize("engine", EACH)
def test_earlier_outputs_stay_as_they_were_when_the_runner_is_called_again(built: Path, engine: str) -> None:
    run, _ = open_runner(built_in(built, engine))
    first_NK = run(probe_images(7)[:3])
    kept_NK = first_NK.copy()
    run(probe_images(7)[3:6])
    np.testing.assert_array_equal(first_NK, kept_NK)


@pytest.mark.parametrize("engine", [engine for engine in QUICK if not engine.endswith("fp32")])
def test_a_lower_precision_is_really_lower(built: Path, engine: str) -> None:
    images_NHWC_u8 = probe_images(7)
    full_NK = open_runner(built / f"{parse_engine(engine)[0]}-fp32")[0](images_NHWC_u8)
    lower_NK = open_runner(built / engine)[0](images_NHWC_u8)
    assert np.abs(full_NK - lower_NK).max() > 0


@pytest.mark.parametrize("engine", QUICK)  # compiled code is bound to a device, so it is exempt
def test_an_engine_is_the_same_bytes_when_built_again(built: Path, engine: str, tmp_path: Path) -> None:
    build(ANY_CLASS, 0, engine, built / "model", built / "ingest", built / "split", tmp_path)
    for file in (built / engine).iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("engine", EACH)
def test_an_engine_takes_the_identity_of_what_it_was_made_from(built: Path, engine: str) -> None:
    exported = Card.read(built / "model/card.json")
    card = open_runner(built_in(built, engine))[1]
    assert (card.form, card.made_from) == (engine, exported.artifact)
    assert (card.class_names, card.preprocessing) == (exported.class_names, exported.preprocessing)
    assert f"{card.backend}-{card.precision}" == engine
    assert card.artifact != exported.artifact
    assert card.files.keys() == {*BACKENDS[card.backend].files, PROBES, FACTS}


@pytest.mark.parametrize("engine", EACH)
def test_a_changed_file_is_refused_by_its_checksum(built: Path, engine: str, tmp_path: Path) -> None:
    for file in built_in(built, engine).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    victim = next(path for path in tmp_path.iterdir() if path.name.startswith("model"))
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(BadInput, match=rf"{victim.name} has the checksum .* but its card.json says"):
        open_runner(tmp_path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    write_exported(tmp_path, onnx_model(weights()))
    (tmp_path / "probes.npz").unlink()
    with pytest.raises(BadInput, match=r"probes.npz is listed .* and is not there"):
        open_runner(tmp_path)


def test_a_card_cannot_name_a_file_outside_its_folder(tmp_path: Path) -> None:
    card = write_exported(tmp_path / "model", onnx_model(weights()))
    (tmp_path / "outside").write_bytes(b"")
    card.model_copy(update={"files": {"../outside": "0" * 64}}).write(tmp_path / "model/card.json")
    with pytest.raises(BadInput, match="outside"):
        open_runner(tmp_path / "model")


def test_an_onnx_file_with_another_class_order_is_refused(tmp_path: Path) -> None:
    write_exported(tmp_path, onnx_model(weights(), names=SWAPPED), names=NAMES)
    with pytest.raises(WrongFile, match=r"names its classes bee, ant, .* card says ant, bee"):
        open_runner(tmp_path)


def test_an_openvino_engine_with_another_class_order_is_refused(built: Path, tmp_path: Path) -> None:
    for name in BACKENDS["openvino"].files:
        (tmp_path / name).write_bytes((built / "openvino-fp32" / name).read_bytes())
    seal(tmp_path, SWAPPED, backend="openvino")
    with pytest.raises(WrongFile, match="not its card's"):
        open_runner(tmp_path)


@pytest.mark.parametrize(("backend", "file"), [("onnxruntime", "model.onnx"), ("openvino", "model.xml")])
def test_a_file_that_is_no_model_is_a_wrong_file(backend: str, file: str, tmp_path: Path) -> None:
    for name in BACKENDS[backend].files:
        (tmp_path / name).write_bytes(b"no model at all")
    seal(tmp_path, backend=backend)
    with pytest.raises(WrongFile, match=rf"cannot read .*{file}"):
        open_runner(tmp_path)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_missing_package_is_named_with_the_way_to_get_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setitem(sys.modules, BACKENDS[name].package, None)
    with pytest.raises(
        MissingPackage, match=f"the package {BACKENDS[name].package} cannot be imported"
    ) as message:
        backend_module(name)
    assert BACKENDS[name].install in str(message.value)


def test_latency_is_measured_for_one_image_and_for_a_batch(built: Path) -> None:
    latency = measure_latency(built / "onnxruntime-fp32", "onnxruntime-fp32", probe_images(2))
    assert set(latency.milliseconds) == set(BATCHES)
    for percentiles in latency.milliseconds.values():
        assert 0 < percentiles["p50"] <= percentiles["p90"] <= percentiles["p99"]


@pytest.mark.parametrize("engine", QUICK)
def test_what_an_engine_takes_and_gives_is_read_without_opening_it(built: Path, engine: str) -> None:
    facts, card = EngineFacts.read(built / engine / FACTS), Card.read(built / engine / "card.json")
    assert FACTS in card.files
    assert (facts.backend, facts.precision, facts.device) == (card.backend, card.precision, card.device)
    (given,), (result,) = facts.inputs, facts.outputs
    assert (given.dtype, given.shape[1:]) == ("uint8", (SIZE, SIZE, 3)) and isinstance(given.shape[0], str)
    assert (result.dtype, result.shape[1:]) == ("float32", (len(NAMES),)) and isinstance(result.shape[0], str)


def test_the_threads_of_params_stand_in_the_card_and_are_those_it_runs_with(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, cpus = 99_999_999_999, len(os.sched_getaffinity(0))
    params = BuildParams(threads=many)
    build(params, 0, "onnxruntime-fp32", built / "model", built / "ingest", built / "split", tmp_path)
    assert Card.read(tmp_path / "card.json").device.threads == many
    asked: list[int | None] = []
    monkeypatch.setattr("steps.backends.onnxruntime.open_engine", lambda *given: asked.append(given[-1]))
    open_runner(tmp_path)
    open_runner(tmp_path, threads=2)
    open_runner(built / "onnxruntime-fp32")
    assert asked == [cpus, 2, None], "of a CPU that is not here no thread can be had"


@pytest.mark.skipif(not HAS_BF16, reason="this CPU has no bfloat16")
def test_a_bf16_engine_of_openvino_does_not_run_in_another_precision(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openvino.Core.get_property", lambda *_: ["FP32", "INT8"])
    open_runner(built / "openvino-fp32")
    with pytest.raises(CannotRunHere, match="computes in bfloat16, which this CPU lacks"):
        open_runner(built / "openvino-bf16")
