"""Train the network, multi-branch where `train.expand` says so, and write the model of the best epoch on val.

A training that was interrupted goes on from its last checkpoint and ends in the same bits as one without a stop.
"""

import itertools
import math
from collections.abc import Iterable
from functools import partial, wraps
from pathlib import Path
from typing import Any, Literal

import torch

from steps.cli import run_step
from steps.errors import Refused
from steps.files import replace_folder
from steps.images.augmentation import AUGMENTATIONS
from steps.images.cache import ImageReader, cache_key, open_images
from steps.images.dataset import Images, image_root
from steps.models.files import save_model
from steps.models.normalised import Normalised
from steps.models.own_networks import refuse_elsewhere
from steps.models.readback import lost_state
from steps.params.train import TrainParams
from steps.reports.card import Card, Expansion, Preprocessing
from steps.reports.classes import Classes
from steps.reports.train import TrainMetrics, TrainReport
from steps.training.checkpoint import discard_finished, discard_old, fingerprint, load_best, mark_finished
from steps.training.data import LabelledImages, choose_probes, in_batches, read_images
from steps.training.feed import Feed
from steps.training.history import Progress, write_history
from steps.training.loop import Plan, Training, fit, make_deterministic
from steps.training.losses import LOSSES
from steps.training.network import (
    NetworkSpec,
    TrainableNetwork,
    library_versions,
    make_network,
    say_cost,
    sources_of,
    warnings_of,
)
from steps.training.optimizers import OPTIMIZERS
from steps.training.plot import plot_history
from steps.training.qat import appended, fine_tune, folded_for_int8
from steps.training.samplers import SAMPLERS
from steps.training.schedules import SCHEDULES
from steps.training.validation import Figures, Validation
from steps.weights.loading import weights_checksum
from steps.weights.own_preprocessing import StatedPreprocessing
from steps.weights.preprocessing import ResolvedPreprocessing, resolve_preprocessing

CACHE = Path(".foldline/cache")
TRAININGS = Path(".foldline/train")
# A training goes on from a checkpoint only while none of these has changed.
CODE = ("training", "reparam", "tracing", "models", "weights", "images", "metrics", "train.py")


def train(
    params: TrainParams, seed: int, class_num: int | Literal["auto"], images: Path, split: Path, out: Path
) -> None:
    """Write model/ (the best epoch on val, by `best_by`), history.csv, history.svg, metrics.json and report.json.

    Refuses a loss that is not finite, with step and learning rate, and `weights` that fill too little of the
    network. With `epochs: 0` the model is that of the weights, and val is measured.
    """
    device = make_deterministic()
    classes = Classes.read(images / "classes.json")
    names = classes.listed(classes.resolve(class_num))
    data = read_images(split / "manifest.parquet", len(names))
    preprocessing, source = _resolved(params)
    trainable = make_network(_network_spec(params, len(names), preprocessing), seed, device)
    _refuse_fresh_weights_without_epochs(params, trainable)
    unused_ids = data.unused_ids(len(names))
    say_cost(trainable, preprocessing.size, len(names), len(unused_ids))
    warnings = warnings_of(trainable, len(data.train_N))
    checkpoints = TRAININGS / _fingerprint(params, seed, names, data, trainable, preprocessing)
    discard_old(TRAININGS, keep=checkpoints)
    reader = open_images(data.manifest, image_root(images), preprocessing, CACHE)
    training = _training(params, seed, len(names), data, reader, trainable, checkpoints)
    progress = fit(training)
    assert progress.best_epoch is not None
    load_best(checkpoints, training.network, progress.best_epoch)
    probes = choose_probes(data, reader, seed, params.probes)
    network = trainable.network
    if params.qat.epochs:
        folded = folded_for_int8(trainable.network, preprocessing, torch.from_numpy(probes.images_NHWC_u8), seed)
        network, tuned = fine_tune(training, folded, params.qat.epochs, params.qat.lr)
        progress = appended(progress, tuned)
    save_model(out / "model", network.network, _card(params, names, preprocessing, trainable.network), probes)
    _refuse_lost_state(out / "model", network, [probes.images_NHWC_u8], reader.read(in_batches(data.val_N)))
    write_history(progress.history, out / "history.csv")
    plot_history(progress.history, out / "history.svg")
    facts = {"unused_ids": unused_ids, "warnings": warnings, "preprocessing_from": source}
    report = _report(params, names, trainable, training.validate(network), training, progress)
    report = report.model_copy(update=facts)
    metrics = report.model_dump(include=set(TrainMetrics.model_fields))
    TrainMetrics.model_validate(metrics).write(out / "metrics.json")
    report.write(out / "report.json")
    mark_finished(checkpoints)


def _refuse_lost_state(model: Path, network: Normalised, *images: Iterable[Images]) -> None:
    """Refuse a model that does not score these images, probes and val, as the network in memory does."""
    sentence = lost_state(model, network.eval(), itertools.chain(*images))
    if sentence is not None:
        raise Refused(f"{sentence} The checkpoints of the training are kept.", TrainReport())


def _training(
    params: TrainParams,
    seed: int,
    class_num: int,
    data: LabelledImages,
    reader: ImageReader,
    trainable: TrainableNetwork,
    checkpoints: Path,
) -> Training:
    labels_N = data.labels_N[data.train_N]
    loss = LOSSES[params.loss.name](**params.loss.settings())
    schedule = SCHEDULES[params.schedule.name](**params.schedule.settings())
    feed = Feed(
        images=reader,
        rows_N=data.train_N,
        labels_N=labels_N,
        sampler=SAMPLERS[params.sampler.name](labels_N, class_num, **params.sampler.settings()),
        batch_size=params.batch_size,
        seed=seed,
        augmentations=[make(**getattr(params.augment, name).model_dump()) for name, make in AUGMENTATIONS.items()],
    )
    return Training(
        network=trainable.network,
        make_optimizer=partial(OPTIMIZERS[params.optimizer.name], **params.optimizer.settings()),
        feed=feed,
        loss=loss,
        validate=Validation(reader, data.val_N, data.labels_N[data.val_N], class_num, loss),
        plan=Plan(params.epochs, params.lr, schedule, params.best_by),
        checkpoints=checkpoints,
    )


def _resolved(params: TrainParams) -> ResolvedPreprocessing:
    how = params.preprocess
    stated = StatedPreprocessing(how.side, how.resize, how.interpolation, how.mean, how.std)
    weights = None if params.weights is None else Path(params.weights)
    return resolve_preprocessing(stated, weights, how.of_weights, params.arch)


def _expansion(params: TrainParams) -> Expansion | None:
    how = params.expand
    return None if how.block == "none" else Expansion(block=how.block, where=how.where, mode=how.mode)


def _network_spec(params: TrainParams, class_num: int, preprocessing: Preprocessing) -> NetworkSpec:
    return NetworkSpec(
        arch=params.arch,
        class_num=class_num,
        preprocessing=preprocessing,
        weights=None if params.weights is None else Path(params.weights),
        min_weights_coverage=params.min_weights_coverage,
        bottleneck=params.bottleneck,
        expansion=_expansion(params),
        init=params.init,
    )


def _refuse_fresh_weights_without_epochs(params: TrainParams, trainable: TrainableNetwork) -> None:
    """With `epochs: 0`, refuse weights that leave some tensors of the network as they were drawn."""
    if params.epochs or trainable.weights is None:
        return
    if trainable.weights.head_replaced:
        raise Refused(
            f"{params.weights} has no last layer for these classes, and with train.epochs 0 nothing would train "
            "the fresh one. Give epochs, or weights of these classes.",
            TrainReport(weights=trainable.weights),
        )
    fresh = [*trainable.weights.missing, *trainable.weights.other_shape]
    if fresh:
        raise Refused(
            f"{params.weights} lacks {len(fresh)} of the network's tensors ({', '.join(fresh[:3])}), and with "
            "train.epochs 0 nothing would train the fresh ones. Give epochs, or the whole of the weights.",
            TrainReport(weights=trainable.weights),
        )


def _fingerprint(
    params: TrainParams,
    seed: int,
    names: tuple[str, ...],
    data: LabelledImages,
    trainable: TrainableNetwork,
    preprocessing: Preprocessing,
) -> str:
    """Return the name of the checkpoints of this training; all that can change a weight changes the name."""
    facts = [
        params.model_dump_json(),
        str(seed),
        "\n".join(names),
        cache_key(data.manifest, preprocessing),
        data.digest(),
        "" if params.weights is None else weights_checksum(Path(params.weights)),
        str(trainable.device),
        str(library_versions(params.arch, trainable.network)),
    ]
    here = Path(__file__).parent
    return fingerprint(facts, [*(here / name for name in CODE), *sources_of(trainable.network)])


def _card(params: TrainParams, names: tuple[str, ...], preprocessing: Preprocessing, network: Normalised) -> Card:
    return Card(
        form="train",
        arch=params.arch,
        class_num=len(names),
        class_names=names,
        preprocessing=preprocessing,
        bottleneck=params.bottleneck,
        expansion=None if params.qat.epochs else _expansion(params),
        fused=params.qat.epochs > 0,  # folded before it was fine-tuned
        files={},
        artifact="",
        versions=library_versions(params.arch, network),
    )


def _report(
    params: TrainParams,
    names: tuple[str, ...],
    trainable: TrainableNetwork,
    figures: Figures,
    training: Training,
    progress: Progress,
) -> TrainReport:
    """Return the figures of the network that was written, which is that of the best epoch."""
    shares = training.feed.sampler.probability_K.tolist()
    return TrainReport(
        arch=params.arch,
        epochs=params.epochs + params.qat.epochs,
        best_epoch=progress.best_epoch,
        val_top1=figures.top1,
        val_macro_recall=figures.macro_recall,
        val_worst_recall=figures.worst_recall,
        recall_per_class=dict(zip(names, map(_known, figures.recall_K.tolist()), strict=True)),
        sampling_per_class=dict(zip(names, shares, strict=True)),
        parameters_multi_branch=trainable.parameters,
        head_parameters=trainable.head,
        head_parameters_without_bottleneck=trainable.head_without_bottleneck,
        sites=trainable.sites,
        weights=trainable.weights,
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _publish(written: Path, out: Path, _report: str) -> None:
    """Give the model its final name, and then delete its checkpoints: no kill can lose both."""
    replace_folder(written, out)
    discard_finished(TRAININGS)


@wraps(train)
def _train_what_is_watched(**arguments: Any) -> None:
    # Only here, where params.yaml names the network: a caller in Python may train any network.
    refuse_elsewhere(arguments["params"].arch)
    train(**arguments)


if __name__ == "__main__":
    run_step(_train_what_is_watched, _publish)
