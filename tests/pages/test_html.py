"""Pages load no external resource, and no text can escape from its HTML element."""

import numpy as np

from steps.pages import html
from steps.pages.tables import aligned, markdown

HOSTILE = "<script>alert('x')</script> & \"quotes\"\nand | pipes"


def test_no_text_breaks_out_of_a_page() -> None:
    picture = html.image(np.zeros((2, 2, 3), np.uint8), HOSTILE)
    parts = [html.heading(HOSTILE), html.paragraphs([HOSTILE]), html.table([HOSTILE], [[HOSTILE]]), picture]
    page = html.page(HOSTILE, [*parts, html.preformatted([HOSTILE])]).decode()
    assert "<script" not in page and "alert(&#x27;x&#x27;)" in page
    assert "http" not in page and page.count('src="') == page.count('src="data:') == 1


def test_columns_of_a_table_are_aligned() -> None:
    lines = aligned(("form", "top-1"), [("train", "9.1"), ("onnxruntime", "10.25")], rule="-")
    assert lines == [
        "form         top-1",
        "-----------  -----",
        "train          9.1",
        "onnxruntime  10.25",
    ]


def test_no_cell_breaks_out_of_a_markdown_table() -> None:
    table = markdown(("a|b", "c"), [("1\n2", HOSTILE)])
    assert len(table.splitlines()) == 3
    assert all(line.replace("\\|", "").count("|") == 3 for line in table.splitlines())
