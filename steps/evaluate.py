"""Run one form of the model on the test images and write the scores; `gate` judges them.

Letters: N images, K classes.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from steps.backends.latency import measure_latency
from steps.backends.runner import open_runner
from steps.cli import run_step
from steps.engines.artifact import model_bytes
from steps.engines.contract import Deferred, Images, Runner, TooLarge, WrongFile
from steps.engines.max_side import check_sides
from steps.engines.sanity import noise_of
from steps.errors import BadInput, Refused
from steps.files import merge_into_folder, sha256
from steps.images.dataset import batches_as_they_are, image_root, load_all
from steps.images.evaluation_cache import kept_batches
from steps.images.manifest import read_manifest
from steps.metrics.recall import recall_per_class, summary, worst_recall
from steps.metrics.scores import Keeper, Scores, write_scores
from steps.progress import say, track
from steps.reports.artifact import CARD, read_verified_card
from steps.reports.card import Card
from steps.reports.champion import Champion
from steps.reports.classes import Classes
from steps.reports.evaluate import FormReport, Metrics
from steps.reports.release import check_sums

CHAMPION = "champion"  # the form whose --model is the folder of the release now in production
BATCH = 64
TIMED_ON = 32  # images
LATENCIES = Path(".foldline/latency")


def evaluate(form: str, model: Path, images: Path, split: Path, out: Path) -> None:
    """Write FORM.parquet (ordered by id; see steps.metrics.scores), FORM.json and FORM.metrics.json.

    A form that this machine cannot run is deferred, and so is a champion that cannot be compared: FORM.json then
    has the reason, and FORM.parquet has no rows. Refuses a model whose class names differ from those of the images
    or of its card.
    """
    test = read_manifest(split / "manifest.parquet", split="test")
    if test.is_empty():
        raise BadInput(f"{split / 'manifest.parquet'} has no test images; raise split.test.")
    artifact = model / "release" / "model" if form == CHAMPION else model
    report = FormReport(form=form, test_set=_digest(test))
    no_champion = form == CHAMPION and not Champion.read(model / "champion.json").accepted
    identity = (
        {} if no_champion else _identity(artifact)
    )  # the folder may still have a release that is no longer accepted
    try:
        run, card = _open(form, model, artifact, images)
    except Deferred as reason:
        _write(report.model_copy(update={"deferred": str(reason), **identity}), test.clear(), None, out)
        return
    keeper, first_NHWC_u8 = _scores(run, card, form, test, image_root(images))
    figures = {**identity, **_figures(keeper, test, card)}
    _write(report.model_copy(update=figures), test, keeper.scores, out)
    if card.takes == "any":  # all forms are timed on images of one size
        first_NHWC_u8 = load_all(test.head(TIMED_ON), image_root(images), card.preprocessing)
    _note_latency(form, artifact, first_NHWC_u8[:TIMED_ON])


def _identity(artifact: Path) -> dict[str, object]:
    """Return the card and the size of a form, known without running it; {} where there is no card."""
    if not (artifact / CARD).is_file():
        return {}
    card = Card.read(artifact / CARD)
    return {"card": card, "size_bytes": model_bytes(artifact, card)}


def _open(form: str, model: Path, artifact: Path, images: Path) -> tuple[Runner, Card]:
    """Return the form's runner and card, or raise Deferred or Refused."""
    if form == CHAMPION:
        if not Champion.read(model / "champion.json").accepted:
            raise Deferred("there is no accepted release yet")
        check_sums(model / "release")
    card = read_verified_card(artifact)
    difference = _difference(card, images)
    if difference and form == CHAMPION:
        raise Deferred(f"the release in production cannot be compared on these images: {difference}")
    if difference:
        raise Refused(f"{form}: {difference}; train the model on these images.", FormReport(form=form, card=card))
    try:
        return open_runner(artifact)
    except WrongFile as fault:
        raise Refused(f"{form}: {fault}", FormReport(form=form, card=card)) from fault


def _difference(card: Card, images: Path) -> str | None:
    """Return the first difference between the classes of the model and of the images, or None."""
    classes = Classes.read(images / "classes.json")
    of_images = classes.listed(max(card.class_num, classes.resolve("auto")))
    if len(of_images) != card.class_num:
        return f"the images have {len(of_images)} classes and the model {card.class_num}"
    for number, (of_image, of_model) in enumerate(zip(of_images, card.class_names, strict=True)):
        if of_image != of_model:
            return f"class {number} is '{of_image}' in the images and '{of_model}' in the model"
    return None


def _scores(run: Runner, card: Card, form: str, test: pl.DataFrame, root: Path) -> tuple[Keeper, Images]:
    """Return the stored scores of the test images in the manifest's order, and the first batch of images."""
    keeper, images = Keeper(card.class_num), 0
    first_NHWC_u8: Images | None = None
    for images_NHWC_u8 in FEEDS[card.takes](test, root, card):
        first_NHWC_u8 = images_NHWC_u8 if first_NHWC_u8 is None else first_NHWC_u8
        logits_NK = run(images_NHWC_u8)
        if logits_NK.shape != (len(images_NHWC_u8), card.class_num):
            number = len(images_NHWC_u8)
            raise BadInput(
                f"{form} gave {logits_NK.shape} scores for {number} images of {card.class_num} classes."
            )
        keeper.add(logits_NK)
        images += len(images_NHWC_u8)
    assert first_NHWC_u8 is not None and images == test.height, "the feeds give every test image once"
    return keeper, first_NHWC_u8


def _sized(test: pl.DataFrame, root: Path, card: Card) -> Iterator[Images]:
    """Yield the images at the network's size."""
    ready = kept_batches(test, root, card.preprocessing, BATCH)
    return track(ready, f"evaluate {card.form}", total=-(-test.height // BATCH), unit="batches")


def _as_they_are(test: pl.DataFrame, root: Path, card: Card) -> Iterator[Images]:
    """Yield the decoded images, or raise Refused where an image is larger than the engine's max_side."""
    assert card.max_side is not None, "the card refuses `any` without max_side"
    try:
        check_sides(test, card.form, card.max_side)
    except TooLarge as fault:
        raise Refused(str(fault), FormReport(form=card.form, card=card)) from fault
    ready = batches_as_they_are(test, root, BATCH)
    return track(ready, f"evaluate {card.form}", total=test.height, unit="batches at most")


FEEDS = {"sized": _sized, "any": _as_they_are}


def _figures(keeper: Keeper, test: pl.DataFrame, card: Card) -> dict[str, object]:
    labels_N, scores = test["label"].to_numpy(), keeper.scores
    predicted_N = scores.predicted_N
    recall_K = recall_per_class(predicted_N, labels_N, card.class_num)
    _, worst = worst_recall(recall_K)
    still = np.flatnonzero(keeper.still(noise_of(scores.logits_NM)) & ~np.isnan(recall_K))
    return {
        "images": test.height,
        **summary(predicted_N, labels_N, card.class_num),
        "worst_class": None if worst is None else card.class_names[worst],
        "still": len(still),
        "first_still": int(still[0]) if len(still) else None,
    }


def _write(report: FormReport, test: pl.DataFrame, scores: Scores | None, out: Path) -> None:
    path = out / f"{report.form}.parquet"
    write_scores(path, test.select(pl.col("name").alias("id"), "label", "checksum"), scores)
    figures = report.model_dump(include=set(Metrics.model_fields))
    Metrics.model_validate(figures).write(out / f"{report.form}.metrics.json")
    report.model_copy(update={"scores_checksum": sha256(path)}).write(out / f"{report.form}.json")


def _digest(test: pl.DataFrame) -> str:
    """Return one sha256 over the names, checksums and labels of the test images, in order."""
    lines = (
        f"{name}\0{checksum}\0{label}\n" for name, checksum, label in test["name", "checksum", "label"].rows()
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _note_latency(form: str, artifact: Path, images_NHWC_u8: Images) -> None:
    """Measure the latency on a few images and write it to LATENCIES, which no stage reads; report a failure."""
    latency, file = measure_latency(artifact, form, images_NHWC_u8), LATENCIES / f"{form}.json"
    try:
        latency.write(file)
    except OSError as fault:
        say(f"evaluate: {file} cannot be written ({fault.strerror}), so no new latency is shown.")


if __name__ == "__main__":
    run_step(evaluate, publish=merge_into_folder, report="{form}.json")
