"""Build one engine, `<backend>-<precision>`, from the exported ONNX model, and check its outputs."""

import shutil
from pathlib import Path

import numpy as np

from steps.backends.runner import open_runner
from steps.building.consistency import check_batches, check_sizes
from steps.building.engine import Target, build_engine, card_of, check_answers
from steps.building.int8 import Int8Images, Int8Outcome, Int8Plan
from steps.cli import run_step
from steps.engines.artifact import model_bytes, read_probes
from steps.engines.contract import BatchRange, CannotBuild, CannotRunHere, MissingPackage, TooLarge, WrongFile
from steps.engines.max_side import check_sides
from steps.engines.names import parse_engine
from steps.engines.sanity import random_probes
from steps.errors import Refused
from steps.images.dataset import image_root, load_all
from steps.images.manifest import read_manifest
from steps.params.build import BuildParams, Int8Params
from steps.progress import say
from steps.reports.artifact import PROBES, read_verified_card, write_card
from steps.reports.build import BuildReport, Int8Report
from steps.reports.card import Card, Precision

# The meaning of `build.preprocess: auto` for backends that can resize and crop in their graph: a GPU has the time
# for it, and on a CPU Pillow is faster. All other backends take images at the network's size.
AUTO = {"onnxruntime": "host", "openvino": "host", "tensorrt": "graph", "tensorrt-rtx": "graph"}
ADVICE = (
    "Train with train.expand.block qarepvgg (or train.qat.epochs), keep the branches with fuse.branches keep, "
    "or let the worst layers stay in float32 with build.int8.fallback sensitivity and a min_agreement to reach"
)
MANIFEST = "manifest.parquet"
DOUBTFUL = 0.99  # a lower agreement can cost more than one point of accuracy


def build(params: BuildParams, seed: int, engine: str, model: Path, images: Path, split: Path, out: Path) -> None:
    """Write the engine's files, card.json and report.json; int8 is calibrated on training images.

    Refuses
    - an engine that this machine cannot build, and a graph that is not its card's,
    - an engine whose outputs are constant, not finite or saturated, or depend on the batch or on who resizes,
    - an int8 graph that gives another class than float32 on too many of the held-out training images,
    - an engine that resizes images, if a test image is larger than its max_side.
    An engine that this machine can build but not run is written; the report has the reason.
    """
    backend, precision = parse_engine(engine)
    batch = BatchRange(params.batch.min, params.batch.opt, params.batch.max)
    exported = read_verified_card(model)
    try:
        side = _max_side(params, backend)
        if side is not None:  # refused before the build, as evaluate would refuse it later
            check_sides(read_manifest(split / MANIFEST, split="test"), engine, side)
        target = Target(backend, precision, batch, params.compute_capabilities, side, params.threads)
        plan = _int8_plan(params, seed, exported, images, split) if precision == "int8" else None
        built, outcome = build_engine(target, model, out, plan)
        int8 = _judged(outcome, params.int8)
        shutil.copyfile(model / PROBES, out / PROBES)
        card = write_card(out, card_of(exported, target, built))
        not_run = _check_outputs(out, precision, card, seed)
    except TooLarge as fault:
        raise Refused(str(fault), report=BuildReport(engine=engine)) from fault
    except (CannotBuild, MissingPackage, WrongFile) as fault:
        _empty(out)
        advice = ", or remove it from `engines`" if isinstance(fault, MissingPackage) else ""
        sentence = f"{engine}: {str(fault).rstrip('.')}{advice}."
        raise Refused(sentence, report=BuildReport(engine=engine)) from fault
    report = BuildReport(
        engine=engine, size_bytes=model_bytes(out, card), builder_log=built.log, int8=int8, not_run=not_run
    )
    report.write(out / "report.json")


def _int8_plan(params: BuildParams, seed: int, card: Card, images: Path, split: Path) -> Int8Plan:
    """Return training images drawn by the seed, in the order of names: one set to calibrate, one set to judge."""
    train = read_manifest(split / MANIFEST, split="train")
    if train.height < 2:
        raise CannotBuild("int8 needs at least two training images: one to calibrate on, one to be judged on")
    count = min(params.calibration_images, (train.height + 1) // 2)
    drawn = np.random.default_rng(seed).permutation(train.height)[: count + params.int8.held_out_images]
    calibration, held_out = (
        load_all(train[np.sort(rows)], image_root(images), card.preprocessing)
        for rows in (drawn[:count], drawn[count:])
    )
    return Int8Plan(Int8Images(calibration, held_out), params.int8.fallback, params.int8.min_agreement)


def _judged(outcome: Int8Outcome | None, params: Int8Params) -> Int8Report | None:
    """Return the report of an int8 graph, or raise CannotBuild where the agreement is too low.

    A graph below build.int8.min_agreement would pass no gate, so build refuses it before the evaluation of all
    forms, with advice. Between min_agreement and DOUBTFUL, build warns and the gate decides.
    """
    if outcome is None:
        return None
    report = Int8Report(**vars(outcome))
    say(
        f"build: int8 gives float32's class on {outcome.agreement:.2%} of {outcome.images} images; "
        f"{len(outcome.left_in_float)} of {outcome.layers} layers stay in float32"
    )
    if outcome.agreement < DOUBTFUL:
        say(f"build: this agreement may cost more than one point of accuracy. {ADVICE}")
    if outcome.agreement < params.min_agreement:
        raise CannotBuild(
            f"int8 gives float32's class on only {outcome.agreement:.1%} of {outcome.images} training images that "
            "were not used for calibration; build.int8.min_agreement asks for "
            f"{params.min_agreement:.1%}. {ADVICE}"
        )
    return report


def _max_side(params: BuildParams, backend: str) -> int | None:
    """Return the largest side of images that the engine resizes, or None where the caller resizes."""
    where = _auto(params, backend) if params.preprocess == "auto" else params.preprocess
    if where == "graph" and backend not in AUTO:
        raise CannotBuild(f"build.preprocess is graph, and {backend} has no engine that resizes; set auto or host")
    return params.max_side if where == "graph" else None


def _auto(params: BuildParams, backend: str) -> str:
    """Return where `auto` resizes; TensorRT for RTX has no float32 matrix products for compute capability 7.5."""
    cannot_resize = backend == "tensorrt-rtx" and "7.5" in params.compute_capabilities
    return "host" if cannot_resize else AUTO.get(backend, "host")


def _check_outputs(out: Path, precision: Precision, card: Card, seed: int) -> str | None:
    """Check the engine's outputs; return None, or the reason why this machine cannot run the engine."""
    try:
        run, _ = open_runner(out)
    except CannotRunHere as reason:
        say(f"build: {card.form} is built, but was not run: {reason}")
        return str(reason)
    probes_NHWC_u8 = read_probes(out)
    check_answers(run, precision, random_probes(card.preprocessing.size, seed), probes_NHWC_u8)
    check_batches(run, card, probes_NHWC_u8)
    if card.takes == "any":
        check_sizes(run, card)
    return None


def _empty(out: Path) -> None:
    """Remove all files, so that no engine is beside a refusal."""
    for file in out.iterdir():
        file.unlink()


if __name__ == "__main__":
    run_step(build)
