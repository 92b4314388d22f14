"""The page of a localisation: images, the answers of both forms, and the drift along the graph. Loads nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from steps.localising.drift import TOLERANCE, Drift
from steps.localising.worst_images import Top, WorstImage
from steps.pages import html
from steps.reports.card import Card

LEAST, MOST = -8.0, 1.0  # powers of ten that the bars show
NOT_MEASURED = "of another shape, finite where the other is not, or where nothing should be"
STYLE = ".bar{background:#58a;height:.8em}.over .bar{background:#c33}.first{background:#fdd;font-weight:bold}"


@dataclass(frozen=True)
class Localised:
    """What was found of a form: the drifts in the order of the graph, and what the first of them usually means."""

    form: str
    reference: str
    card: Card
    compared: Sequence[Drift]
    first: Drift | None
    meaning: str
    worst: Sequence[WorstImage]
    images_NHWC_u8: npt.NDArray[np.uint8]
    note: str = ""

    @property
    def sentence(self) -> str:
        """Return what was found, for a terminal."""
        if self.first is None:
            found = f"none of {len(self.compared)} tensors drifts from {self.reference} on the same images"
        else:
            found = (
                f"{_called(self.first)} is the first tensor that drifts from {self.reference} ({_far(self.first)})"
            )
        return f"{self.form}: {found}. {self.meaning}{f' {self.note}' if self.note else ''}"


def page(found: Localised) -> bytes:
    """Return the HTML; names of classes, images and tensors may hold anything and are escaped."""
    pairs = zip(found.worst, found.images_NHWC_u8, strict=True)
    bound = TOLERANCE[found.card.precision]
    explained = (
        f"Root mean square of the difference over that of {found.reference}; a bar is a power of ten from "
        f"1e{LEAST:g} on. More than {bound:g} is more than {found.card.precision} explains."
    )
    header = "".join(f"<th>{name}</th>" for name in ("tensor", "operator", "layer", "drift", "largest value", ""))
    rows = "".join(_row(drift, found) for drift in found.compared)
    parts = [
        html.heading(f"{found.form} against {found.reference}", level=1),
        html.paragraphs([found.sentence]),
        html.heading("The images on which they differ most"),
        *(_figure(image, pixels, found) for image, pixels in pairs),
        html.heading("Drift along the graph"),
        html.paragraphs([explained]),
        f"<table><tr>{header}</tr>{rows}</table>",
    ]
    return html.page(found.form, parts, style=STYLE)


def _row(drift: Drift, found: Localised) -> str:
    over = not drift.error <= TOLERANCE[found.card.precision]
    kind = "first over" if drift is found.first else "over" if over else ""
    cells = (drift.name, drift.operator, drift.layer, _far(drift), f"{drift.largest:.3g}")
    bar = f"<td style='width:20em'><div class='bar' style='width:{_width(drift.error):.0f}%'></div></td>"
    return f"<tr class='{kind}'>" + "".join(f"<td>{html.text(cell)}</td>" for cell in cells) + bar + "</tr>"


def _figure(image: WorstImage, pixels_HWC_u8: npt.NDArray[np.uint8], found: Localised) -> str:
    far = "" if image.difference is None else f"<br>scores differ by {image.difference:.3g}"
    answers = _answer(found.reference, image.of_reference, found.card) + _answer(
        found.form, image.of_form, found.card
    )
    picture = html.image(pixels_HWC_u8, f"the test image {image.name}")
    return f"<figure>{picture}<figcaption>{html.text(image.name)}{far}{answers}</figcaption></figure>"


def _answer(form: str, top: Top, card: Card) -> str:
    listed = ", ".join(f"{card.class_names[number]} {share:.3f}" for number, share in top)
    return f"<br><b>{html.text(form)}</b>: {html.text(listed)}" if top else ""


def _called(drift: Drift) -> str:
    layer = f" of layer {drift.layer}" if drift.layer and drift.layer != drift.name else ""
    return f"'{drift.name}' ({drift.operator}{layer})"


def _far(drift: Drift) -> str:
    if not drift.finite:
        return "not finite"
    return f"{drift.error:.2g}" if math.isfinite(drift.error) else NOT_MEASURED


def _width(error: float) -> float:
    if error <= 0:
        return 0.0
    power = MOST if not math.isfinite(error) else math.log10(error)
    return 100 * (min(max(power, LEAST), MOST) - LEAST) / (MOST - LEAST)
