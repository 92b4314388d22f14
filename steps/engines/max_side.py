"""Check that an engine which resizes images accepts the sizes of the test images, as the manifest lists them."""

import polars as pl

from steps.engines.contract import TooLarge


def check_sides(test: pl.DataFrame, form: str, max_side: int) -> None:
    """Raise TooLarge with the largest image, if an image has a side of more than `max_side` pixels.

    The manifest has the sides before EXIF turns the image. The longer side is the same after the turn.
    """
    longest = pl.max_horizontal("width", "height")
    larger = test.filter(longest > max_side).sort(longest, descending=True, maintain_order=True)
    if larger.is_empty():
        return
    name, width, height = larger.select("name", "width", "height").row(0)
    image = (
        f"{name}, of {width} x {height} (the largest; {larger.height} of {test.height} test images are too large)"
    )
    raise TooLarge(form, image, max_side, max(width, height))
