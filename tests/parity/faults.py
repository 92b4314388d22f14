"""Faults planted into the forms of an honest line, each with the check and the words that must report it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from steps.reports.evaluate import FormReport
from tests.parity.forms import NAMES, Forms

ENGINE = "openvino-int8"
SWAPPED = (NAMES[1], NAMES[0], *NAMES[2:])


@dataclass(frozen=True)
class Fault:
    """A fault planted into a form, with the check and the words that must report it."""

    plant: Callable[[Forms], None]
    form: str
    check: str
    words: str


def _nan_in_one_class(forms: Forms) -> None:
    logits = forms.logits_NK.copy()
    logits[::50, 3] = np.nan
    forms.plant(ENGINE, logits_NK=logits)


def _one_class_constant(forms: Forms) -> None:
    logits = forms.logits_NK.copy()
    logits[:, 2] = -9
    forms.plant(ENGINE, logits_NK=logits)


def _overflow(forms: Forms) -> None:
    logits = forms.logits_NK.copy()
    logits[7, 1] = np.finfo(np.float32).max
    forms.plant(ENGINE, logits_NK=logits)


def _one_astray(forms: Forms) -> None:
    logits = forms.logits_NK.copy()
    logits[7, 1] = 3e38
    forms.plant(ENGINE, logits_NK=logits)


def _permuted(forms: Forms) -> None:
    forms.plant(ENGINE, logits_NK=forms.logits_NK[:, [1, 0, 2, 3, 4]])


def _rare_exchanged(forms: Forms) -> None:
    """Exchange two classes of five images each; no confidence exceeds .9, as with labels smoothed by .1."""
    labels_N = np.where(np.arange(forms.images) < 10, 3 + np.arange(forms.images) % 2, np.arange(forms.images) % 3)
    logits_NK = np.random.default_rng(0).normal(0, 0.3, (forms.images, 5)).astype(np.float32)
    logits_NK[np.arange(forms.images), labels_N] = np.log(9 * 4)
    for form in forms.cards:
        forms.plant(form, logits_NK=logits_NK, labels_N=labels_N)
    forms.plant(ENGINE, logits_NK=logits_NK[:, [0, 1, 2, 4, 3]], labels_N=labels_N)


def _softmax_twice(forms: Forms) -> None:
    shares = np.exp(forms.logits_NK)
    forms.plant(ENGINE, logits_NK=shares / shares.sum(axis=1, keepdims=True))


def _channels_swapped(forms: Forms) -> None:
    noise = np.random.default_rng(9).normal(0, 4, forms.logits_NK.shape).astype(np.float32)
    forms.plant(ENGINE, logits_NK=forms.logits_NK + noise)


def _slightly_swapped(forms: Forms) -> None:
    forms.plant(ENGINE, logits_NK=forms.logits_NK * np.float32(0.4))


def _sorted_differently(forms: Forms) -> None:
    forms.plant("fuse", order=np.arange(forms.images)[::-1].copy(), logits_NK=forms.logits_NK)


def _batch_mixed_up(forms: Forms) -> None:
    forms.plant(ENGINE, logits_NK=np.roll(forms.logits_NK, 1, axis=0))


def _cut_short(forms: Forms) -> None:
    (forms.folder / f"{ENGINE}.parquet").write_bytes(b"PAR1 and no more")


FAULTS: dict[str, Fault] = {
    "constants": Fault(
        lambda forms: forms.plant(ENGINE, logits_NK=np.tile(forms.logits_NK[:1], (forms.images, 1))),
        ENGINE, "constant", "5 of 5 classes",
    ),
    "zeros": Fault(
        lambda forms: forms.plant(ENGINE, logits_NK=np.zeros_like(forms.logits_NK)), ENGINE, "constant", "the same"
    ),
    "one class constant": Fault(_one_class_constant, ENGINE, "constant", "the first 'cow'"),
    "NaN in one class": Fault(_nan_in_one_class, ENGINE, "not_finite", "20 of 1000 images"),
    "overflow": Fault(_overflow, ENGINE, "saturated", "3.40282e+38, the largest number in int8"),
    "one score gone astray": Fault(_one_astray, ENGINE, "largest_score_difference", "image '000007.png'"),
    "class order permuted in the outputs": Fault(_permuted, ENGINE, "top1_drop", "gate.max_top1_drop"),
    "two rare classes exchanged in the outputs": Fault(
        _rare_exchanged, ENGINE, "class_agreement", "class 'dog' of 5 images"
    ),
    "class order permuted in the card": Fault(
        lambda forms: forms.plant(ENGINE, card={"class_names": SWAPPED}), ENGINE, "classes", "class 0 is 'bee'"
    ),
    "class names of another data set": Fault(
        lambda forms: forms.plant("export", card={"class_names": tuple("vwxyz")}), "export", "classes", "'v'"
    ),
    "channels swapped": Fault(_channels_swapped, ENGINE, "top1_drop", "exceeds 0.01"),
    "channels swapped, seen in the scores alone": Fault(
        _slightly_swapped, ENGINE, "score_difference", "gate.max_score_difference"
    ),
    "softmax applied twice": Fault(_softmax_twice, ENGINE, "score_difference", "exceeds 0.05"),
    "images of a batch mixed up": Fault(_batch_mixed_up, ENGINE, "top1_drop", "exceeds"),
    "images dropped": Fault(
        lambda forms: forms.plant(ENGINE, order=np.arange(990), logits_NK=forms.logits_NK),
        ENGINE, "images", "lacks 10 images, the first '000990.png'",
    ),
    "images sorted differently": Fault(_sorted_differently, "fuse", "images", "sorted differently"),
    "evaluated on the training list": Fault(
        lambda forms: forms.plant(ENGINE, test_set="e" * 64), ENGINE, "images", "test set eeee"
    ),
    "labels of another list": Fault(
        lambda forms: forms.plant(ENGINE, labels_N=(np.arange(forms.images) + 1) % 5),
        ENGINE, "labels", "1000 images",
    ),
    "stale engine of the last run": Fault(
        lambda forms: forms.plant(ENGINE, card={"made_from": "older-artifact"}), ENGINE, "chain", "stale"
    ),
    "engine of another model": Fault(
        lambda forms: forms.plant(ENGINE, card=dict(forms.cards["onnxruntime-fp32"])), ENGINE, "chain",
        "'onnxruntime-fp32'",
    ),
    "another precision in the card": Fault(
        lambda forms: forms.plant(ENGINE, card={"precision": "fp32"}), ENGINE, "chain", "built for openvino-fp32"
    ),
    "another backend in the card": Fault(
        lambda forms: forms.plant(ENGINE, card={"backend": "onnxruntime"}), ENGINE, "chain", "onnxruntime-int8"
    ),
    "fuse of another training": Fault(
        lambda forms: forms.plant("fuse", card={"made_from": "other"}), "fuse", "chain", "made from other"
    ),
    "another preprocessing": Fault(
        lambda forms: forms.plant(ENGINE, card={"preprocessing": forms.cards["train"].preprocessing.model_copy(
            update={"mean": (0.4, 0.5, 0.6)})}), ENGINE, "chain", "another preprocessing",
    ),
    "figures that are not of these scores": Fault(
        lambda forms: forms.plant(ENGINE, top1=0.999), ENGINE, "evidence", "0.999"
    ),
    "class_num off by one": Fault(
        lambda forms: forms.plant(ENGINE, card={"class_num": 6, "class_names": (*NAMES, "fox")}),
        ENGINE, "evidence", "6 scores",
    ),
    "scores cut short": Fault(
        _cut_short,
        ENGINE, "evidence", "not the file that its figures",
    ),
    "never evaluated": Fault(
        lambda forms: (forms.folder / f"{ENGINE}.json").unlink(), ENGINE, "evidence", "is not there"
    ),
    "evaluate refused": Fault(
        lambda forms: forms.plant(ENGINE, refused="the class names differ"),
        ENGINE, "evidence", "evaluate refused this form",
    ),
    "not run here": Fault(
        lambda forms: FormReport(form=ENGINE, deferred="there is no GPU").write(forms.folder / f"{ENGINE}.json"),
        ENGINE, "run", "there is no GPU",
    ),
    "a reference that guesses": Fault(
        lambda forms: forms.plant("train", logits_NK=np.random.default_rng(3).normal(
            0, 1, forms.logits_NK.shape).astype(np.float32)), "train", "top1", "beat chance",
    ),
    "a class that is no longer found": Fault(
        lambda forms: forms.plant(ENGINE, logits_NK=forms.with_lost(40, of_class=4)), ENGINE, "recall_drop",
        "class 'eel' of 200 images",
    ),
}  # fmt: skip
