"""Whether an engine that resizes images itself takes those that it is evaluated on: asked of their manifest."""

import polars as pl

from steps.engines.contract import TooLarge


def check_sides(test: pl.DataFrame, form: str, max_side: int) -> None:
    """Raise TooLarge, naming the largest, where an image has a side of more than `max_side` pixels.

    The manifest's sides are those before EXIF turns the image, which the longer of the two does not depend on.
    """
    longest = pl.max_horizontal("width", "height")
    larger = test.filter(longest > max_side).sort(longest, descending=True, maintain_order=True)
    if larger.is_empty():
        return
    name, width, height = larger.select("name", "width", "height").row(0)
    what = (
        f"{name}, of {width} x {height} (the largest; {larger.height} of {test.height} test images are too large)"
    )
    raise TooLarge(form, what, max_side, max(width, height))
