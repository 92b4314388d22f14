"""Faults of what one form reads and of what evaluate leaves: other images, other labels, other files."""

import shutil
from collections.abc import Callable
from typing import Any

import polars as pl
from PIL import Image

from benchmarks.planted.line import Line, downstream
from benchmarks.planted.mutant import Mutant, images_of
from benchmarks.planted.places import Change, Place, planted
from steps.engines.contract import Images
from steps.images.preprocessing import preprocess
from steps.reports.card import Card, Preprocessing

FORM = "openvino-fp32"
EVALUATED = f"evaluate@{FORM}"


def _preprocessed(change: Change, check: str = "score_difference", form: str = FORM) -> Mutant:
    return Mutant(form, Place("preprocessing"), change, downstream(form), check)


def _listed(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Mutant:
    """Return a form evaluated on another list than the others."""
    wrong = lambda read: lambda *given, **named: change(read(*given, **named))  # noqa: E731
    return Mutant(FORM, Place("test list"), wrong, downstream(FORM), "images", "test set")


def _told(change: Change, check: str, words: str = "", form: str = FORM) -> Mutant:
    return Mutant(form, Place("scores", form), change, ("gate",), check, words)


def _said(check: str, words: str, **figures: Any) -> Mutant:
    change = lambda report: report.model_copy(update=figures)  # noqa: E731
    return Mutant(FORM, Place("figures", FORM), change, ("gate",), check, words)


def _carded(form: str, change: Change, stages: tuple[str, ...], check: str, words: str) -> Mutant:
    return Mutant(form, Place("card", form), change, stages, check, words)


def _file(form: str, name: str, change: Change, stages: tuple[str, ...], check: str, words: str = "") -> Mutant:
    return Mutant(form, Place("file", name), change, stages, check, words)


def with_how(**other: Any) -> Change:
    """Return preprocessing with other settings than the card's."""
    return lambda _: lambda image, how: preprocess(image, how.model_copy(update=other))


def crop_moved(right: int, down: int) -> Change:
    """Return preprocessing whose crop is so many pixels off."""

    def wrong(image: Image.Image, how: Preprocessing) -> Images:
        larger = how.size + 2 * max(right, down)  # whose middle is the right crop
        larger_HWC_u8 = preprocess(image, how.model_copy(update={"size": larger}))
        top, left = max(right, down) + down, max(right, down) + right
        return larger_HWC_u8[top : top + how.size, left : left + how.size]

    return lambda _: wrong


def without_resize(image: Image.Image, how: Preprocessing) -> Images:
    """Squeeze the image to the crop's size, as if there were no crop."""
    return preprocess(image, how.model_copy(update={"resize": how.size}))


def _names(*swapped: int) -> Change:
    def change(card: Card) -> Card:
        names = list(card.class_names)
        names[swapped[0]], names[swapped[1]] = names[swapped[1]], names[swapped[0]]
        return card.model_copy(update={"class_names": tuple(names)})

    return change


def _one_class_more(card: Card) -> Card:
    return card.model_copy(update={"class_num": card.class_num + 1, "class_names": (*card.class_names, "more")})


def _interpolation(card: Card) -> Card:
    how = card.preprocessing.model_copy(update={"interpolation": "bicubic"})
    return card.model_copy(update={"preprocessing": how})


def _rolled(logits: pl.Expr) -> pl.Expr:
    return pl.concat_list(logits.list.slice(1), logits.list.slice(0, 1))


def _rare_exchanged(line: Line) -> None:
    """Leave five test images of classes 3 and 8 in the scores of all forms, and exchange the two in one form's."""
    rare = pl.col("label").is_in([3, 8]) & (pl.int_range(pl.len()).over("label") >= 5)
    places = [8 if k == 3 else 3 if k == 8 else k for k in range(10)]
    exchanged = pl.concat_list(*(pl.col("scores").list.get(k) for k in places))
    for form in (*line.forms, "champion"):
        scores = exchanged if form == FORM else pl.col("scores")
        with planted(line, Place("scores", form), _without(rare, scores)):
            pass


def _repeated(line: Line) -> None:
    """Leave twenty test images in the scores of all forms, and name each of them forty times."""
    for form in (*line.forms, "champion"):
        with planted(line, Place("scores", form), _twenty_often):
            pass


def _twenty_often(scores: pl.DataFrame) -> pl.DataFrame:
    twenty = scores.gather_every(scores.height // 20).head(20)
    return pl.concat([twenty.with_columns(id=f"{number}-" + pl.col("id")) for number in range(40)])


def _exchanged(line: Line) -> None:
    """Put the scores of the trained form in the place of an engine's: their averages are the same."""
    shutil.copy(line.root / "evaluate/train.parquet", line.root / f"evaluate/{FORM}.parquet")


def _without(rows: pl.Expr, scores: pl.Expr) -> Change:
    return lambda table: table.filter(~rows).with_columns(scores=scores)


def _labels_of_another_list(scores: pl.DataFrame) -> pl.DataFrame:
    return scores.with_columns(label=(pl.col("label") + 1) % 10)


def _all_right(scores: pl.DataFrame) -> pl.DataFrame:
    right = [[9.0 * (k == label) for k in range(10)] for label in scores["label"]]
    return scores.with_columns(scores=pl.Series(right, dtype=pl.List(pl.Float32)))


def _one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


PREPROCESSED: dict[str, Mutant] = {
    "bicubic for bilinear": _preprocessed(with_how(interpolation="bicubic")),
    "crop one pixel off": _preprocessed(crop_moved(1, 0)),
    "resize and no crop": _preprocessed(lambda _: without_resize),
    "pixels divided by 255 before the graph does": Mutant(
        FORM, Place("runner"), images_of(lambda pixels: pixels // 255), downstream(FORM), "top1_drop"
    ),
    "negative for positive": Mutant(
        FORM, Place("runner"), images_of(lambda pixels: 255 - pixels), downstream(FORM), "top1_drop"
    ),
    "images mirrored": Mutant(
        FORM, Place("runner"), images_of(lambda pixels: pixels[:, :, ::-1].copy()), downstream(FORM), "top1_drop"
    ),
    "height and width exchanged": Mutant(
        FORM, Place("runner"), images_of(lambda p: p.transpose(0, 2, 1, 3).copy()), downstream(FORM), "top1_drop"
    ),
}

LISTED: dict[str, Mutant] = {
    "evaluated on the training list": Mutant(
        FORM, Place("test list"), lambda read: lambda path, **_: read(path, split="train"), downstream(FORM),
        "images", "test set",
    ),
    "test images dropped": _listed(lambda test: test.head(-7)),
    "a test image twice": _listed(lambda test: pl.concat([test, test.head(1)])),
    "test images sorted otherwise": _listed(lambda test: test.reverse()),
    "labels of another list while evaluated": _listed(
        lambda test: test.with_columns(label=(pl.col("label") + 3) % 10)
    ),
    "classes of another data set": _file(
        FORM, "ingest/classes.json", lambda content: content.replace(b': "3"', b': "three"'), (EVALUATED,),
        "class names of the images",
    ),
}  # fmt: skip

WRITTEN: dict[str, Mutant] = {
    "rows dropped from the scores": _told(lambda scores: scores.head(-3), "images", "lacks 3 images"),
    "rows of the scores sorted otherwise": _told(lambda scores: scores.reverse(), "images", "sorted differently"),
    "scores sorted and names not": _told(
        lambda scores: scores.with_columns(scores=scores["scores"].reverse()), "top1_drop"
    ),
    "an image twice in the scores": _told(
        lambda scores: pl.concat([scores, scores.tail(1)]), "images", "more than once"
    ),
    "labels of another list in the scores": _told(_labels_of_another_list, "labels", "another label"),
    "classes rolled by one in the scores": _told(
        lambda scores: scores.with_columns(scores=_rolled(pl.col("scores"))), "top1_drop"
    ),
    "two rare classes exchanged in the scores": Mutant(
        FORM, Place("folders"), _rare_exchanged, ("gate",), "class_agreement", "class '3' of"
    ),
    "test images repeated under other names": Mutant(
        "fuse", Place("folders"), _repeated, ("gate",), "top1_drop", "like these 20 would decide"
    ),
    "scores of another form": Mutant(
        FORM, Place("folders"), _exchanged, ("gate",), "evidence", "not the file that its figures"
    ),
    "figures without a test set": _said("images", "names no test set", test_set=""),
    "figures of another run": _said("evidence", "its figures give", top1=0.99),
    "another worst recall than the scores'": _said("evidence", "gives a worst_recall", worst_recall=0.99),
    "fewer images than scores": _said("images", "the figures are of", images=600),
    "a report of another form": _said("evidence", "describes the form", form="export"),
    "evaluate refused and nobody looked": _said("evidence", "evaluate refused this", refused="the classes differ"),
    "scores cut short": _file(FORM, f"evaluate/{FORM}.parquet", _half, ("gate",), "evidence", "not the file that"),
    "figures cut short": _file(FORM, f"evaluate/{FORM}.json", _half, ("gate",), "evidence"),
    "a model file cut short": _file(FORM, f"build/{FORM}/model.bin", _half, (EVALUATED,), "checksum"),
    "one bit of a model turned": _file(FORM, f"build/{FORM}/model.bin", _one_bit, (EVALUATED,), "checksum"),
    "weights cut short before export": _file(
        "export", "fuse/model/model.safetensors", _half, ("export",), "checksum"
    ),
    "one bit of the export turned before building": _file(
        "onnxruntime-fp32", "export/model/model.onnx", _one_bit, ("build@onnxruntime-fp32",), "checksum"
    ),
    "the release in production cut short": _file(
        "champion", "champion/release/model/model.onnx", _half, ("evaluate@champion",), "sums of the release"
    ),
    "labels file of another data set in the release in production": _file(
        "champion", "champion/release/labels.txt", lambda content: content.replace(b"3", b"three"),
        ("evaluate@champion",), "sums of the release", "labels.txt",
    ),
    "the release in production is better": Mutant(
        "export", Place("scores", "champion"), _all_right, ("gate",), "champion_drop"
    ),
    "an engine changed after the verdict": _file(
        FORM, f"build/{FORM}/model.bin", _one_bit, ("release",), "what was judged"
    ),
    "checksum of another artifact in a card": _carded(
        FORM, lambda card: card.model_copy(update={"artifact": "0" * 64}), (EVALUATED,), "checksum",
        "not the checksum",
    ),
    "class names exchanged in a card": _carded(
        FORM, _names(2, 7), (EVALUATED,), "class names of the images", "class 2"
    ),
    "class_num off by one in a card": _carded(
        FORM, _one_class_more, (EVALUATED,), "class names of the images", "'more' in the model"
    ),
    "another interpolation in a card": _carded(
        FORM, _interpolation, downstream(FORM), "chain", "another preprocessing"
    ),
}  # fmt: skip
