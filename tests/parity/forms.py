"""A line of forms as evaluate leaves them, from invented numbers: honest at first, then with one planted fault."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from steps.engines.names import ENGINES as KNOWN
from steps.engines.names import parse_engine
from steps.engines.sanity import noise_of
from steps.files import sha256
from steps.metrics.recall import predicted, recall_per_class, summary, worst_recall
from steps.metrics.scores import Keeper, write_scores
from steps.params.gate import GateParams
from steps.parity.judge import Terms
from steps.reports.card import Card, Precision, Preprocessing
from steps.reports.evaluate import FormReport

Logits = npt.NDArray[np.float32]
NAMES = ("ant", "bee", "cow", "dog", "eel")
ENGINES = ("onnxruntime-fp32", "openvino-int8")
LINE = ("train", "fuse", "export")
HOW = Preprocessing(size=8, resize=8, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
IMAGES = 1000


def card_of(form: str, parent: str | None) -> Card:
    """Return the card of a form that was made from `parent`."""
    made: tuple[str, Precision] = parse_engine(form) if form in KNOWN else ("pytorch", "fp32")
    return Card(
        form=form,
        arch="tiny",
        class_num=len(NAMES),
        class_names=NAMES,
        preprocessing=HOW,
        files={},
        artifact=f"{form}-artifact",
        made_from=f"{parent}-artifact" if parent else None,
        backend=made[0],
        precision=made[1],
    )


def labels_of(images: int) -> npt.NDArray[np.int64]:
    """Return balanced labels."""
    return np.arange(images) % len(NAMES)


def trained_logits(images: int, seed: int = 0) -> Logits:
    """Return logits_NK of a network that is right for about 19 of 20 images, each with a different confidence."""
    draw = np.random.default_rng(seed)
    right = draw.random(images) < 0.95
    message = np.where(right, labels_of(images), (labels_of(images) + 1) % len(NAMES))
    logits_NK = draw.normal(0, 0.5, (images, len(NAMES)))
    logits_NK[np.arange(images), message] += draw.uniform(4, 8, images)
    return logits_NK.astype(np.float32)


class Forms:
    """A folder `evaluate/` of an honest line; `plant` rewrites one form with a change."""

    def __init__(
        self, folder: Path, engines: Sequence[str] = ENGINES, images: int = IMAGES, contents: int | None = None
    ) -> None:
        self.folder, self.engines, self.images = folder, tuple(engines), images
        self.contents = contents or images  # later rows are copies of the first rows
        folder.mkdir(parents=True, exist_ok=True)
        self.logits_NK = trained_logits(images)[np.arange(images) % self.contents]
        parents = {"train": None, "fuse": "train", "export": "fuse"} | dict.fromkeys(engines, "export")
        self.cards = {form: card_of(form, parent) for form, parent in parents.items()}
        for number, form in enumerate(self.cards):
            noise = np.random.default_rng(number).normal(0, 1e-5, self.logits_NK.shape)
            self.plant(form, logits_NK=(self.logits_NK + noise).astype(np.float32))
        FormReport(form="champion", deferred="there is no accepted release yet").write(folder / "champion.json")

    def plant(
        self,
        form: str,
        logits_NK: Logits | None = None,
        order: npt.NDArray[np.int64] | None = None,
        labels_N: npt.NDArray[np.int64] | None = None,
        card: dict[str, Any] | None = None,
        **figures: Any,
    ) -> None:
        """Write the form's two files; `order` selects and sorts the rows."""
        scores = self.logits_NK if logits_NK is None else logits_NK
        labels = labels_of(self.images) if labels_N is None else labels_N
        rows = np.arange(self.images) if order is None else order
        known = self.cards.get(form) or card_of(form, None)
        self._write(form, rows, labels[rows], scores[rows], known.model_copy(update=card or {}), figures)

    def _write(
        self, form: str, rows: npt.NDArray[np.int64], labels_N: npt.NDArray[np.int64], scores: Logits,
        card: Card, figures: dict[str, Any],
    ) -> None:  # fmt: skip
        said_N = predicted(scores)
        _, number = worst_recall(recall_per_class(said_N, labels_N, len(NAMES)))
        keeper = Keeper(scores.shape[1])
        keeper.add(scores)
        still = np.flatnonzero(
            keeper.still(noise_of(keeper.scores.logits_NM)) & np.isin(np.arange(scores.shape[1]), labels_N)
        )
        report = FormReport(
            form=form, card=card, images=len(rows), **summary(said_N, labels_N, len(NAMES)),
            worst_class=NAMES[number or 0], size_bytes=123_456, test_set="f" * 64,
            still=len(still), first_still=int(still[0]) if len(still) else None,
        )  # fmt: skip
        ids = [f"{row:06}.png" for row in rows]
        images = pl.DataFrame(
            {"id": ids, "label": labels_N, "checksum": [f"{row % self.contents}" for row in rows]}
        )
        path = self.folder / f"{form}.parquet"
        write_scores(path, images, keeper.scores)
        report.model_copy(update={"scores_checksum": sha256(path), **figures}).write(path.with_suffix(".json"))

    def resealed(self, form: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Change the rows of FORM.parquet, and update the checksum in FORM.json."""
        path = self.folder / f"{form}.parquet"
        change(pl.read_parquet(path)).write_parquet(path)
        report = FormReport.read(path.with_suffix(".json"))
        report.model_copy(update={"scores_checksum": sha256(path)}).write(path.with_suffix(".json"))

    def with_lost(self, count: int, of_class: int | None = None) -> Logits:
        """Return the trained logits, with `count` images that were right (of one class, if given) now wrong."""
        labels_N = labels_of(self.images)
        right_N = predicted(self.logits_NK) == labels_N
        if of_class is not None:
            right_N &= labels_N == of_class
        lost = np.flatnonzero(right_N)[:count]
        changed = self.logits_NK.copy()
        changed[lost] = np.roll(changed[lost], 1, axis=1)
        return changed

    def terms(self, **changed: Any) -> Terms:
        """Return the gate's default terms; every form of this line is required unless `required` is given."""
        params = GateParams(**{"required": ("fuse", "export", *self.engines), **changed})
        limits = params.model_dump(include={key for key in GateParams.model_fields if key[:4] in ("max_", "min_")})
        return Terms(self.engines, params.required, limits, params.confidence, classes=params.classes)
