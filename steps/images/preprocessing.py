"""From image bytes to the network's input: the reference for training, evaluation and engines.

The code needs only Pillow and numpy, so that a release's predict.py can contain the same lines.
"""

import io
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from steps.reports.card import Preprocessing

# Pillow's other formats are rare, and one of them (EPS) starts another program on the file.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO")
ORIENTATION = 0x0112  # the EXIF tag for the orientation of an image
# Long side to short. A longer image is cut to its middle first, because resizing it could fill the memory.
MAX_ASPECT = 50
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def decode_rgb(content: bytes) -> Image.Image:
    """Return the image upright (EXIF orientation applied) and in RGB.

    16-bit grey is scaled to 8 bits. Palettes are replaced by their colours. Transparent images are placed on
    white. Pillow's formula converts CMYK. Only the first frame of an animation is used.
    Raises OSError on unreadable bytes.
    """
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        opened.load()
        turned = ORIENTATION in opened.getexif()
        upright = ImageOps.exif_transpose(opened) if turned else opened  # exif_transpose always copies the image
        if upright.mode.startswith("I") or upright.mode == "F":
            wide = np.asarray(upright).astype(np.float64)
            upright = Image.fromarray((wide / 257).round().clip(0, 255).astype(np.uint8))
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return upright.convert("RGB")


def preprocess(image: Image.Image, how: Preprocessing) -> npt.NDArray[np.uint8]:
    """Return the network's input, HWC uint8: short side resized to `how.resize`, centre crop to `how.size`.

    The image is resized first along its width and then along its height, because Pillow 13 chooses the order by
    the image's shape, and earlier versions do not. The long side is the exact quotient, rounded half to even.
    """
    image = _middle(image)
    short = min(image.size)
    width, height = (max(how.resize, round(Fraction(side * how.resize, short))) for side in image.size)
    for size in ((width, image.height), (width, height)):
        if size != image.size:
            image = image.resize(size, FILTERS[how.interpolation])
    left, top = (width - how.size) // 2, (height - how.size) // 2
    return np.asarray(image.crop((left, top, left + how.size, top + how.size)))


def _middle(image: Image.Image) -> Image.Image:
    """Return the image, cut to its middle where its aspect ratio exceeds MAX_ASPECT."""
    width, height = image.size
    if max(width, height) <= MAX_ASPECT * min(width, height):
        return image
    width, height = min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
