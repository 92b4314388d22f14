"""An engine's scores of an image must not depend on the batch, nor on whether the engine or its caller resizes.

evaluate judges an engine by the test images, in their sizes and in batches of 64. The checks here compare the
engine with itself, so that the verdict holds for other batches and sizes too. In every batch, an image must get
the scores that it gets in a batch of 64. An image that the engine resizes must get the scores of the reference's
pixels. Both checks compare scores of one engine, so the bound of each precision is close to its rounding.
Letters: N images, H and W pixels, S the network's size, K classes.
"""

import numpy as np
from PIL import Image

from steps.engines.contract import CannotBuild, Images, Logits, Runner
from steps.images.preprocessing import preprocess
from steps.reports.card import Card, Precision

BATCHES = (1, 2, 7, 64, 65)  # one, a few, the batch of evaluate, and one more; the profile's batches are added
EVALUATED = 64
# As a share of the spread of the scores: another batch may use other kernels, which round differently.
ROUNDING: dict[Precision, float] = {"fp32": 5e-3, "fp16": 5e-2, "bf16": 0.2, "int8": 0.2}
SAME = 1e-3  # as a share of the spread, for the same pixels in the same batch


def check_batches(run: Runner, card: Card, probes_NHWC_u8: Images) -> None:
    """Raise CannotBuild where the scores of an image depend on the batch, or on the position in the batch."""
    pictures_NHWC_u8 = np.concatenate([probes_NHWC_u8, _pictures(EVALUATED, card)])[:EVALUATED]
    images_NHWC_u8 = unresized(pictures_NHWC_u8, card)
    expected_NK = _scores(run, images_NHWC_u8)
    allowed = ROUNDING[card.precision] * _spread(expected_NK)
    for count in sorted({*BATCHES, *(card.device.batch or ())}):
        rotated = np.arange(1, 1 + count) % EVALUATED
        difference = float(_rms(_scores(run, images_NHWC_u8[rotated]) - expected_NK[rotated]).max())
        if not difference <= allowed:
            raise CannotBuild(
                f"the engine was built, but in batches of {count} it gives other scores than in a batch of "
                f"{EVALUATED} in another order: the scores of one image differ by {difference:.3g}, and "
                f"{card.precision} may round by {allowed:.3g}; it must not be used."
            )


def check_sizes(run: Runner, card: Card) -> None:
    """Raise CannotBuild where an engine that resizes gives an image other scores than the reference's pixels.

    The scores may differ as much as a change of up to one 8-bit level in each pixel changes the engine's scores: a
    correct resize differs by one level in one of fifty numbers.
    """
    how, random = card.preprocessing, np.random.default_rng(0)
    pictures = [_picture(width, height, random) for width, height in _sides(card)]
    sized_NHWC_u8 = np.stack([preprocess(Image.fromarray(picture), how) for picture in pictures])
    level_NHWC = np.where(sized_NHWC_u8 < 128, 1, -1) * random.integers(0, 2, sized_NHWC_u8.shape)
    moved_NHWC_u8 = (sized_NHWC_u8 + level_NHWC).astype(np.uint8)
    found_NK, expected_NK, moved_NK = (
        np.concatenate([_scores(run, image_HWC_u8[None]) for image_HWC_u8 in images])  # by the same kernels
        for images in (pictures, unresized(sized_NHWC_u8, card), unresized(moved_NHWC_u8, card))
    )
    allowed = _rms(moved_NK - expected_NK).max() + SAME * _spread(expected_NK)
    for picture, difference in zip(pictures, _rms(found_NK - expected_NK), strict=True):
        if not difference <= allowed:
            height, width = picture.shape[:2]
            raise CannotBuild(
                f"the engine was built, but its scores of an image of {width} x {height} pixels differ from the "
                f"scores of the reference's pixels by {difference:.3g}, and one level of 255 in each pixel "
                f"explains only {allowed:.3g}; its resize and crop differ from the reference's, and it must not "
                "be used."
            )


def _sides(card: Card) -> list[tuple[int, int]]:
    """Return the tested widths and heights: from one pixel to max_side, long, odd, small and large."""
    side, most = card.preprocessing.resize, card.max_side or 0
    sides = [
        (1, 1),
        (2, 101),  # longer than 50 : 1
        (most, 1 + most // 60),
        (2 * side + 1, 2 * side - 1),
        (side + 3, 4 * side),
        (side // 2 + 1, side // 3 + 1),
    ]
    return [(min(width, most), min(height, most)) for width, height in sides]


def unresized(images_NHWC_u8: Images, card: Card) -> Images:
    """Return images at the network's size with a border, so that an engine that resizes only has to crop.

    The border shows the negative of the image's edge, so that a wrong crop changes the scores.
    """
    if card.takes == "sized":
        return images_NHWC_u8
    size, resize = card.preprocessing.size, card.preprocessing.resize
    before = (resize - size) // 2
    border = (before, resize - size - before)
    bordered_NHWC_u8 = np.pad(255 - images_NHWC_u8, ((0, 0), border, border, (0, 0)), mode="edge")
    bordered_NHWC_u8[:, before : before + size, before : before + size] = images_NHWC_u8
    return bordered_NHWC_u8


def _pictures(count: int, card: Card) -> Images:
    """Return different images_NHWC_u8 of patches, from coarse to fine."""
    random, size = np.random.default_rng(0), card.preprocessing.size
    return np.stack([_patches(size, size, 2 + number % 7, random) for number in range(count)])


def _picture(width: int, height: int, random: np.random.Generator) -> Images:
    """Return one image with edges and with grain; a resize without antialias keeps the grain."""
    patches_HWC_u8 = _patches(width, height, 3, random)
    grain_HWC = random.integers(-60, 61, patches_HWC_u8.shape)
    return (patches_HWC_u8 + grain_HWC).clip(0, 255).astype(np.uint8)


def _patches(width: int, height: int, across: int, random: np.random.Generator) -> Images:
    coarse_HWC_u8 = random.integers(0, 256, (across, across, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * across // side for side in (height, width))
    patches_HWC_u8: Images = coarse_HWC_u8[rows][:, columns]
    return patches_HWC_u8


def _scores(run: Runner, images_NHWC_u8: Images) -> Logits:
    """Return the engine's scores, one row for each image, or raise CannotBuild."""
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
    """Return the root mean square of the scores around their mean; at least 0.1 % of the largest score."""
    deviation = float(np.sqrt(np.square(logits_NK - logits_NK.mean(0), dtype=np.float64).mean()))
    return max(deviation, 1e-3 * float(np.abs(logits_NK).max()))
