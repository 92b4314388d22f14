"""The page of a localisation: images, what both forms said, and the drift along the graph. It loads nothing."""

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from steps.localising.drift import TOLERANCE, Drift
from steps.localising.worst_images import Top, WorstImage
from steps.reports.card import Card

LEAST, MOST = -8.0, 1.0  # powers of ten that the bars show
NOT_MEASURED = "of another shape, finite where the other is not, or where nothing should be"
STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2em .6em;text-align:left}"
    "figure{display:inline-block;margin:.5em;width:15em;vertical-align:top}"
    "figure img{width:8em;image-rendering:pixelated}.bar{background:#58a;height:.8em}"
    ".over .bar{background:#c33}.first{background:#fdd;font-weight:bold}"
)


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


def page(found: Localised) -> str:
    """Return the HTML; names of classes, images and tensors may hold anything and are escaped."""
    rows = "".join(_row(drift, found) for drift in found.compared)
    pairs = zip(found.worst, found.images_NHWC_u8, strict=True)
    figures = "".join(_figure(image, pixels, found) for image, pixels in pairs)
    return (
        f"<!doctype html><html><head><meta charset='utf-8'><title>{_text(found.form)}</title>"
        f"<style>{STYLE}</style></head><body><h1>{_text(found.form)} against {_text(found.reference)}</h1>"
        f"<p>{_text(found.sentence)}</p><h2>The images on which they differ most</h2>{figures}"
        "<h2>Drift along the graph</h2><p>Root mean square of the difference over that of "
        f"{_text(found.reference)}; a bar is a power of ten from 1e{LEAST:g} on. "
        f"More than {TOLERANCE[found.card.precision]:g} is more than "
        f"{found.card.precision} explains.</p><table><tr><th>tensor</th><th>operator</th><th>layer</th>"
        f"<th>drift</th><th>largest value</th><th></th></tr>{rows}</table></body></html>\n"
    )


def _row(drift: Drift, found: Localised) -> str:
    over = not drift.error <= TOLERANCE[found.card.precision]
    kind = "first over" if drift is found.first else "over" if over else ""
    cells = (drift.name, drift.operator, drift.layer, _far(drift), f"{drift.largest:.3g}")
    bar = f"<td style='width:20em'><div class='bar' style='width:{_width(drift.error):.0f}%'></div></td>"
    return f"<tr class='{kind}'>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + bar + "</tr>"


def _figure(image: WorstImage, pixels_HWC_u8: npt.NDArray[np.uint8], found: Localised) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels_HWC_u8).save(content, "PNG")
    source = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    far = "" if image.difference is None else f"<br>scores differ by {image.difference:.3g}"
    said = _said(found.reference, image.of_reference, found.card) + _said(found.form, image.of_form, found.card)
    return f"<figure><img src='{source}' alt=''><figcaption>{_text(image.name)}{far}{said}</figcaption></figure>"


def _said(form: str, top: Top, card: Card) -> str:
    listed = ", ".join(f"{card.class_names[number]} {share:.3f}" for number, share in top)
    return f"<br><b>{_text(form)}</b>: {_text(listed)}" if top else ""


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


def _text(text: str) -> str:
    return html.escape(" ".join(text.split()))
