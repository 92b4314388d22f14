"""The line of small colour pictures of many sizes and shapes, for what digits of 8 x 8 pixels cannot show.

Its engines are those that resize by themselves, and those that are compiled.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.planted.line import LEARNT, Line, make
from benchmarks.planted.network import COMPILED

SHORT, LONG = (24, 64), 2.0  # pixels of a short side; how much longer the long one may be
LEARNT_HERE = {"arch": COMPILED, "preprocess": LEARNT.preprocess.model_copy(update={"interpolation": "bicubic"})}
GRAIN = 60  # levels of noise in each pixel, which a resize without antialias lets through


def make_pictures(root: Path, engines: tuple[str, ...]) -> Line:
    """Train on digits that are drawn into pictures, and take the network through every stage but the release."""
    draw(root / "pictures")
    line = Line(root, engines, root / "pictures", LEARNT.model_copy(update=LEARNT_HERE))
    make(line)
    return line


def draw(folder: Path) -> None:
    """Write each of scikit-learn's digits into a picture of its own, in the folder of its class."""
    from sklearn.datasets import load_digits

    digits_NHW, labels_N = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    for number, (digit, label) in enumerate(zip(digits_NHW.reshape(-1, 8, 8), labels_N, strict=True)):
        target = folder / str(label)
        target.mkdir(parents=True, exist_ok=True)
        picture(digit, random).save(target / f"{number:04}.png", compress_level=1)


def picture(
    digit_HW: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", random: np.random.Generator
) -> Image.Image:
    """Return the digit in colours, in the middle of a picture, with grain all over it."""
    short = int(random.integers(*SHORT))
    sides = [short, int(short * random.uniform(1, LONG))]
    width, height = random.permutation(sides).tolist()
    grey = Image.fromarray((digit_HW * 15).astype(np.uint8)).resize((short, short), Image.Resampling.BICUBIC)
    ground = Image.new("L", (width, height))
    ground.paste(grey, ((width - short) // 2, (height - short) // 2))
    ink_C, paper_C = random.uniform(0.7, 1, 3), random.uniform(0, 60, 3)
    colours_HWC = np.asarray(ground)[..., None] * ink_C + paper_C
    grain_HWC = random.integers(-GRAIN, GRAIN + 1, (height, width, 3))
    return Image.fromarray((colours_HWC + grain_HWC).clip(0, 255).astype(np.uint8))
