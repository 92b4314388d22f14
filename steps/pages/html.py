"""One HTML page: self-contained, loads nothing, and escapes whatever it is given as text."""

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

STYLE = (
    "body{font:15px sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse}"
    "td,th{border:1px solid #ccc;padding:.2em .6em}.numbers td,.numbers th{text-align:right}"
    "figure{display:inline-block;margin:.5em;width:15em;vertical-align:top}"
    "figure img{width:8em;image-rendering:pixelated}"
)


def page(title: str, parts: Iterable[str], style: str = "") -> bytes:
    """Return the page; `parts` are HTML made by the functions of this module, and `title` is text."""
    head = f'<meta charset="utf-8">\n<title>{text(title)}</title>\n<style>{STYLE}{style}</style>'
    body = "\n".join(part for part in parts if part)
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n'.encode()


def text(words: object) -> str:
    """Return the words as HTML text on one line."""
    return html.escape(" ".join(str(words).split()))


def heading(words: str, level: int = 2) -> str:
    """Return a heading."""
    return f"<h{level}>{text(words)}</h{level}>"


def paragraphs(lines: Iterable[str]) -> str:
    """Return a paragraph a line."""
    return "\n".join(f"<p>{text(line)}</p>" for line in lines)


def preformatted(lines: Iterable[str]) -> str:
    """Return the lines as they are."""
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of text, its cells flush right."""
    lines = [("th", header), *(("td", row) for row in rows)]
    body = "\n".join(
        "<tr>" + "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in row) + "</tr>" for tag, row in lines
    )
    return f'<table class="numbers">\n{body}\n</table>'


def inline_svg(svg: bytes) -> str:
    """Return the drawing as part of the page, without its XML header."""
    drawing = svg.decode()
    return drawing[drawing.index("<svg") :]


def image(pixels_HWC_u8: npt.NDArray[np.uint8], words: str) -> str:
    """Return the image inside the page, described by `words` for those who do not see it."""
    content = io.BytesIO()
    Image.fromarray(pixels_HWC_u8).save(content, "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}" alt="{text(words)}">'
