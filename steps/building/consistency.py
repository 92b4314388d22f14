"""An image's answer is its own: it depends neither on how many images come with it, nor on who resizes it.

evaluate judges an engine by the test images, in their sizes and in batches of 64. Here the engine is held against
itself, so that what is shown there holds for other batches and sizes: in each it must give the scores that it
gives to the same image in a batch of 64, and to the reference's pixels, which it need not resize. Nothing is
asked of the scores themselves, so every precision is held to a bound near its own rounding.
Letters: N images, H and W pixels, S the network's size, K classes.
"""

import numpy as np
from PIL import Image

from steps.engines.contract import CannotBuild, Images, Logits, Runner
from steps.images.preprocessing import preprocess
from steps.reports.card import Card, Precision

BATCHES = (1, 2, 7, 64, 65)  # one, a few, as evaluate asks, and beyond; what a profile begins, likes and ends at
EVALUATED = 64
# Of the spread of the scores: what other kernels for another batch may round otherwise, layer upon layer.
ROUNDING: dict[Precision, float] = {"fp32": 5e-3, "fp16": 5e-2, "bf16": 0.2, "int8": 0.2}
SAME = 1e-3  # of the spread, for the same pixels in the same batch


def check_batches(run: Runner, card: Card, probes_NHWC_u8: Images) -> None:
    """Raise CannotBuild where the scores of an image depend on its batch, or on its place in it."""
    pictures_NHWC_u8 = np.concatenate([probes_NHWC_u8, _pictures(EVALUATED, card)])[:EVALUATED]
    images_NHWC_u8 = unresized(pictures_NHWC_u8, card)
    wanted_NK = _scores(run, images_NHWC_u8)
    allowed = ROUNDING[card.precision] * _spread(wanted_NK)
    for count in sorted({*BATCHES, *(card.device.batch or ())}):
        others = np.arange(1, 1 + count) % EVALUATED
        difference = float(_rms(_scores(run, images_NHWC_u8[others]) - wanted_NK[others]).max())
        if not difference <= allowed:
            raise CannotBuild(
                f"the engine was built, but in batches of {count} it answers otherwise than in one of {EVALUATED} "
                f"in another order: the scores of one image differ by {difference:.3g}, and {card.precision} may "
                f"round by {allowed:.3g}; it must not be used."
            )


def check_sizes(run: Runner, card: Card) -> None:
    """Raise CannotBuild where an engine that resizes scores an image otherwise than the reference's pixels of it.

    It may differ by what up to one 8-bit level in every pixel does to the scores of this very engine: a right
    resize is one level off in one number of fifty.
    """
    how, random = card.preprocessing, np.random.default_rng(0)
    pictures = [_picture(width, height, random) for width, height in _sides(card)]
    sized_NHWC_u8 = np.stack([preprocess(Image.fromarray(picture), how) for picture in pictures])
    level_NHWC = np.where(sized_NHWC_u8 < 128, 1, -1) * random.integers(0, 2, sized_NHWC_u8.shape)
    moved_NHWC_u8 = (sized_NHWC_u8 + level_NHWC).astype(np.uint8)
    found_NK, wanted_NK, moved_NK = (
        np.concatenate([_scores(run, image_HWC_u8[None]) for image_HWC_u8 in images])  # by the same kernels
        for images in (pictures, unresized(sized_NHWC_u8, card), unresized(moved_NHWC_u8, card))
    )
    allowed = _rms(moved_NK - wanted_NK).max() + SAME * _spread(wanted_NK)
    for picture, difference in zip(pictures, _rms(found_NK - wanted_NK), strict=True):
        if not difference <= allowed:
            height, width = picture.shape[:2]
            raise CannotBuild(
                f"the engine was built, but it scores an image of {width} x {height} pixels otherwise than what "
                f"the reference makes of it: by {difference:.3g}, where a level of 255 in each pixel makes up for "
                f"{allowed:.3g}; its resize and crop are others, and it must not be used."
            )


def _sides(card: Card) -> list[tuple[int, int]]:
    """Return widths and heights that an engine may meet: from one pixel to max_side, long, odd, small, large."""
    side, most = card.preprocessing.resize, card.max_side or 0
    wanted = [
        (1, 1),
        (2, 101),  # longer than 50 : 1
        (most, 1 + most // 60),
        (2 * side + 1, 2 * side - 1),
        (side + 3, 4 * side),
        (side // 2 + 1, side // 3 + 1),
    ]
    return [(min(width, most), min(height, most)) for width, height in wanted]


def unresized(images_NHWC_u8: Images, card: Card) -> Images:
    """Return images at the network's size as what an engine takes and leaves as it is, but for its crop.

    What the crop cuts off is their negative: a crop beside the right one shows.
    """
    if card.takes == "sized":
        return images_NHWC_u8
    size, resize = card.preprocessing.size, card.preprocessing.resize
    before = (resize - size) // 2
    sides = (before, resize - size - before)
    around_NHWC_u8 = np.pad(255 - images_NHWC_u8, ((0, 0), sides, sides, (0, 0)), mode="edge")
    around_NHWC_u8[:, before : before + size, before : before + size] = images_NHWC_u8
    return around_NHWC_u8


def _pictures(count: int, card: Card) -> Images:
    """Return images_NHWC_u8 of patches, from coarse to fine, each of them another."""
    random, size = np.random.default_rng(0), card.preprocessing.size
    return np.stack([_patches(size, size, 2 + number % 7, random) for number in range(count)])


def _picture(width: int, height: int, random: np.random.Generator) -> Images:
    """Return one image with edges, and with grain that a resize without antialias lets through."""
    patches_HWC_u8 = _patches(width, height, 3, random)
    grain_HWC = random.integers(-60, 61, patches_HWC_u8.shape)
    return (patches_HWC_u8 + grain_HWC).clip(0, 255).astype(np.uint8)


def _patches(width: int, height: int, across: int, random: np.random.Generator) -> Images:
    coarse_HWC_u8 = random.integers(0, 256, (across, across, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * across // side for side in (height, width))
    patches_HWC_u8: Images = coarse_HWC_u8[rows][:, columns]
    return patches_HWC_u8


def _scores(run: Runner, images_NHWC_u8: Images) -> Logits:
    """Return the engine's scores, a row an image, or raise CannotBuild."""
    logits_NK = run(images_NHWC_u8)
    if logits_NK.ndim != 2 or len(logits_NK) != len(images_NHWC_u8):
        raise CannotBuild(
            f"the engine was built, but it gave {logits_NK.shape} scores for {len(images_NHWC_u8)} images; it "
            "must not be used."
        )
    return logits_NK


def _rms(values_NK: Logits) -> Logits:
    """Return the root mean square of each row."""
    of_rows_N: Logits = np.sqrt(np.square(values_NK, dtype=np.float64).mean(1))
    return of_rows_N


def _spread(logits_NK: Logits) -> float:
    """Return how far the scores of different images are from their mean; more where rounding alone is."""
    about = float(np.sqrt(np.square(logits_NK - logits_NK.mean(0), dtype=np.float64).mean()))
    return max(about, 1e-3 * float(np.abs(logits_NK).max()))
