"""Faults of engines: what building makes of the right graph, and engines that are not this model's."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planted import graphs, resizes
from benchmarks.planted.line import BY_ITS_STEPS, Line, downstream
from benchmarks.planted.mutant import Mutant, Terms, logits_of
from benchmarks.planted.places import Change, Place
from steps.engines.contract import Logits
from steps.models.files import load_model, load_probes, save_model

ORT, HALF, QUANTIZED, VINO = "onnxruntime-fp32", "onnxruntime-fp16", "onnxruntime-int8", "openvino-fp32"
OF_INT8: Terms = (*BY_ITS_STEPS.items(), ("gate.required", ("export", QUANTIZED)))
OF_GRAPH: Terms = (("build.preprocess", "graph"),)
NOTHING = graphs.number(0)


def _built(change: Change, check: str, words: str = "", form: str = ORT) -> Mutant:
    """Return a fault of the builder; the gate sees the engine only where build's own look at it found nothing."""
    backend = form.partition("-")[0]
    return Mutant(form, Place("build", backend), change, (f"build@{form}", *downstream(form)), check, words)


def _answered(change: Change, check: str, words: str = "", form: str = VINO) -> Mutant:
    return Mutant(form, Place("runner"), change, downstream(form), check, words)


def _calibrated(change: Change) -> Mutant:
    stages = (f"build@{QUANTIZED}", *downstream(QUANTIZED))
    return Mutant(QUANTIZED, Place("calibration"), change, stages, "divergence", "", OF_INT8)


def _moved(change: Change, form: str, words: str, stages: tuple[str, ...] = ()) -> Mutant:
    return Mutant(form, Place("folders"), change, stages or downstream(form), "chain", words)


def _dead_class(logits_NK: Logits) -> Logits:
    dead_NK = logits_NK.copy()
    dead_NK[:, 4] = -3.0
    return dead_NK


def _not_a_number_for_some(logits_NK: Logits) -> Logits:
    """Make class 7 not a number wherever it would be the answer: the divisor that seldom is zero."""
    wrong_NK = logits_NK.copy()
    wrong_NK[logits_NK.argmax(1) == 7, 7] = np.nan
    return wrong_NK


def _end_of_float16(logits_NK: Logits) -> Logits:
    """Let the surest answers end where float16 does; each of them is still the right class."""
    wrong_NK = logits_NK.copy()
    surest = logits_NK.max(axis=1) >= np.quantile(logits_NK.max(axis=1), 0.9)
    wrong_NK[surest, logits_NK[surest].argmax(1)] = 65504
    return wrong_NK


def _tile_repeated(logits_NK: Logits) -> Logits:
    """Answer the last images of a batch with those before them, as a kernel with a wrong grid does."""
    wrong_NK = logits_NK.copy()
    if len(wrong_NK) > 32:
        wrong_NK[32:] = logits_NK[: len(wrong_NK) - 32]
    return wrong_NK


def _first_two_exchanged(logits_NK: Logits) -> Logits:
    order = np.arange(len(logits_NK))
    order[:2] = order[:2][::-1]
    return logits_NK[order]


def _noisy(logits_NK: Logits) -> Logits:
    noise_NK = np.random.default_rng(len(logits_NK)).normal(1, 0.2, logits_NK.shape)
    return (logits_NK * noise_NK).astype(np.float32)


def _never_nine(logits_NK: Logits) -> Logits:
    wrong_NK = logits_NK.copy()
    wrong_NK[:, 9] -= 20
    return wrong_NK


def almost_the_same(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of another run, so near to these that no score could tell."""
    return {key: value * (1 + 1e-6) if value.is_floating_point() else value for key, value in tensors.items()}


def _other_run(line: Line, *stages: str) -> Line:
    """Return the line of another training, as far as these stages."""
    other = line.copy(line.root / "other")
    network, card = load_model(other.model("train"))
    network.load_state_dict(almost_the_same(network.state_dict()))
    save_model(other.model("train"), network, card, load_probes(other.model("train")))
    other.drive(*stages)
    return other


def _replace(source: Path, target: Path) -> None:
    shutil.rmtree(target)
    shutil.copytree(source, target)


def _stale_engine(line: Line) -> None:
    other = _other_run(line, "fuse", "export", f"build@{ORT}")
    _replace(other.model(ORT), line.model(ORT))


def _stale_fuse(line: Line) -> None:
    _replace(_other_run(line, "fuse").model("fuse"), line.model("fuse"))


def _stale_export(line: Line) -> None:
    _replace(_other_run(line, "fuse", "export").model("export"), line.model("export"))


def _engine_of_another_name(line: Line) -> None:
    _replace(line.model(ORT), line.model(HALF))


def _export_in_the_place_of_an_engine(line: Line) -> None:
    _replace(line.model("export"), line.model(ORT))


ENGINES: dict[str, Mutant] = {
    "constant output": _built(
        graphs.on_logits(("Mul", [NOTHING]), ("Add", [graphs.number(0.3)])), "answers of build", "constant"
    ),
    "zeros in fp16": _built(graphs.on_logits(("Mul", [NOTHING])), "answers of build", "constant", HALF),
    "NaN in an engine": _built(graphs.on_logits(("Log", [])), "answers of build", "not finite"),
    "engine for batches of one": _built(graphs.declared_for_one, "batch of any size", "batches of 1 images only"),
    "two classes exchanged by a builder": _built(
        graphs.on_logits(("Gather", [np.array([1, 0, *range(2, 10)])])), "top1_drop"
    ),
    "last layer without its bias": _built(graphs.weight("head.bias", np.zeros_like), "score_difference"),
    "filters of a layer turned": _built(graphs.weight("deep.weight", lambda w: w[..., ::-1]), "top1_drop"),
    "activation dropped by a builder": _built(graphs.without("Relu"), "top1_drop"),
    "Resize without half pixels in one engine": _built(
        graphs.with_attribute("Resize", "coordinate_transformation_mode", "asymmetric"), "score_difference",
        form=VINO,
    ),
    "softmax applied twice": _built(graphs.on_logits(("Softmax", [])), "score_difference"),
    "scores of another temperature": _built(graphs.on_logits(("Mul", [graphs.number(0.5)])), "score_difference"),
    "every image answered as the first of its batch": _built(graphs.of_batch_one, "batches of build"),
    "wrong in batches of one alone": _built(
        graphs.negated_in_batches("Equal", 1), "batches of build", "in batches of 1 it gives"
    ),
    "wrong in batches of more than 64": _built(
        graphs.negated_in_batches("Greater", 64), "batches of build", "in batches of 65 it gives", VINO
    ),
    "antialias dropped where no test image shrinks": _built(resizes.no_wider_filter, "sizes of build")._replace(
        terms=OF_GRAPH
    ),
    "a dead class": _answered(logits_of(_dead_class), "constant", "1 of 10 classes, the first '4'"),
    "NaN in one class, on a few images": _answered(
        logits_of(_not_a_number_for_some), "not_finite", "the first '7'"
    ),
    "surest answers at the end of float16": _answered(logits_of(_end_of_float16), "saturated", "65504", HALF),
    "batch entries mixed up": _answered(logits_of(lambda logits_NK: logits_NK[::-1].copy()), "top1_drop"),
    "second half of a batch repeated": _answered(logits_of(_tile_repeated), "top1_drop"),
    "neighbours in a batch exchanged now and then": _answered(
        logits_of(_first_two_exchanged), "score_difference"
    ),
    "dropout left on": _answered(logits_of(_noisy), "score_difference"),
    "a class that is never answered": _answered(logits_of(_never_nine), "recall_drop", "class '9'"),
    "one logit a class too few": _answered(logits_of(lambda logits_NK: logits_NK[:, :-1]), "shape of the scores"),
    "one image of each batch lost": _answered(logits_of(lambda logits_NK: logits_NK[:-1]), "shape of the scores"),
    "engine of another model": _built(graphs.of_another_training, "top1_drop"),
    "stale engine of the last run": _moved(_stale_engine, ORT, "stale"),
    "stale fuse of the last run": _moved(_stale_fuse, "fuse", "stale"),
    "stale export of the last run": _moved(_stale_export, "export", "stale"),
    "engine of another precision": _moved(_engine_of_another_name, HALF, "another model was evaluated"),
    "export in an engine's place": _moved(_export_in_the_place_of_an_engine, ORT, "another model was evaluated"),
    "engine rebuilt after the verdict": Mutant(
        ORT, Place("graph", ORT), graphs.weight("head.bias", np.zeros_like), ("release",), "what was judged",
        "is of another model",
    ),
    "int8 calibrated on black images": _calibrated(np.zeros_like),
    "int8 calibrated on images of another range": _calibrated(lambda images_NHWC_u8: images_NHWC_u8 // 16),
    "overflow in fp16": Mutant(
        HALF, Place("graph", "export"), graphs.scaled_between("network.last", "network.head", 1.5e4),
        (f"build@{ORT}", f"build@{HALF}"), "range of float16", "of layer last",
    ),
}  # fmt: skip
