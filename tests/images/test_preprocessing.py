"""Preprocessing: the short side becomes `resize`, the centre is cropped, no image shape can fill the memory."""

import numpy as np
import pytest
from PIL import Image

from steps.images.preprocessing import FILTERS, MAX_ASPECT, preprocess
from steps.reports.card import Preprocessing

HOW = Preprocessing(size=24, resize=32, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1))


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(
    ("width", "height", "resized"),
    [(40, 50, (32, 40)), (32, 32, (32, 32)), (13, 650, (32, 1600)), (650, 13, (1600, 32))],
)
def test_up_to_the_longest_shape_it_is_resize_then_crop_to_the_bit(
    width: int, height: int, resized: tuple[int, int]
) -> None:
    image = picture(width, height)
    left, top = (resized[0] - 24) // 2, (resized[1] - 24) // 2
    whole = np.asarray(image.resize(resized, FILTERS["bicubic"]))
    assert (preprocess(image, HOW) == whole[top : top + 24, left : left + 24]).all()


@pytest.mark.parametrize("size", [(100_000, 2), (2, 100_000), (999, 1), (1, 1000)])
def test_a_longer_image_is_seen_in_its_middle_and_never_made_larger_than_it_allows(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image, pixels = picture(*size), []
    real = Image.Image.resize

    def noted(self: Image.Image, size: tuple[int, int], *how: object) -> Image.Image:
        pixels.append(size[0] * size[1])
        return real(self, size, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", noted)
    found = preprocess(image, HOW)
    assert found.shape == (24, 24, 3)
    assert max(pixels) <= MAX_ASPECT * 32 * 32
    width, height = size
    cut = 10 * min(size)  # much more than the crop shows
    box = (max(0, (width - cut) // 2), max(0, (height - cut) // 2))
    near = image.crop((*box, box[0] + min(width, cut), box[1] + min(height, cut)))
    assert (preprocess(near, HOW) == found).mean() > 0.99  # rounding: the two centres differ slightly


@pytest.mark.parametrize(("size", "resized"), [((33, 83), (32, 80)), ((83, 33), (80, 32)), ((100, 34), (94, 32))])
def test_the_width_is_resized_first_whatever_the_shape(size: tuple[int, int], resized: tuple[int, int]) -> None:
    """Pillow 13 would resize the height first for 33 x 83, which changes these pixels by up to 14 levels."""
    image = picture(*size)
    narrow = image.resize((resized[0], image.height), FILTERS["bicubic"])
    left, top = (resized[0] - 24) // 2, (resized[1] - 24) // 2
    whole = np.asarray(narrow.resize(resized, FILTERS["bicubic"]))
    assert (preprocess(image, HOW) == whole[top : top + 24, left : left + 24]).all()


@pytest.mark.parametrize(
    ("size", "resize", "long_side"),
    [((65, 64), 32, 32), ((67, 64), 32, 34), ((195, 192), 32, 32), ((725, 116), 10, 62)],  # 62.5: floats give 63
)
def test_a_long_side_that_ends_in_a_half_goes_to_the_even_number(
    size: tuple[int, int], resize: int, long_side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, real = [], Image.Image.resize

    def noted(self: Image.Image, size: tuple[int, int], *how: object) -> Image.Image:
        seen.append(size)
        return real(self, size, *how)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", noted)
    preprocess(picture(*size), HOW.model_copy(update={"resize": resize, "size": 8}))
    assert seen[-1] == (long_side, resize)
