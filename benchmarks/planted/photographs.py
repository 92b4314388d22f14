"""The line of a pretrained network on photographs, for what a tiny network on grey digits cannot show."""

import hashlib
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from benchmarks import lite0
from benchmarks.planted import graphs
from benchmarks.planted.in_evaluation import crop_moved, with_how, without_resize
from benchmarks.planted.line import Line, downstream
from benchmarks.planted.mutant import Mutant, images_of
from benchmarks.planted.places import Change, Place
from steps.engines.contract import Images
from steps.images.manifest import SCHEMA, write_manifest
from steps.images.preprocessing import decode_rgb, preprocess
from steps.reports.card import Preprocessing
from steps.reports.champion import Champion
from steps.reports.classes import Classes
from steps.reports.ingest import IngestReport

FORM = "onnxruntime-fp32"
MISSILE, PROJECTILE = 657, 744  # of all classes the two whose scores are most alike
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def make_photographs(root: Path, tar: Path, every: int) -> Line:
    """Take EfficientNet-Lite0 through the line; the test images are every so-many-th photograph of the tar."""
    line = Line(root, engines=(FORM,))
    Champion(accepted=False).write(root / "champion/champion.json")
    Classes(names={number: str(number) for number in range(lite0.CLASSES)}).write(root / "ingest/classes.json")
    IngestReport(root=str(tar.resolve().parent)).write(root / "ingest/report.json")
    (root / "split").mkdir()
    write_manifest(_manifest(tar, every), root / "split/manifest.parquet")
    lite0.write_trained(line.model("train"), "acb", _first(tar))
    line.drive("fuse", "export", f"build@{FORM}", *downstream(*line.forms, "champion"))
    return line


def _manifest(tar: Path, every: int) -> pl.DataFrame:
    """Return a row a photograph, read where it lies in the tar; its class is its place by name."""
    rows = []
    with tarfile.open(tar) as opened:
        members = sorted(filter(tarfile.TarInfo.isfile, opened), key=lambda member: member.name)
        for label, member in list(enumerate(members))[::every]:
            content = opened.extractfile(member)
            assert content is not None
            row: dict[str, Any] = dict.fromkeys(SCHEMA) | {"name": member.name, "file": tar.name, "faults": []}
            row |= {"offset": member.offset_data, "length": member.size, "label": label, "split": "test"}
            rows.append(row | {"checksum": hashlib.sha256(content.read()).hexdigest()})
    return pl.DataFrame(rows, schema=SCHEMA)


def _first(tar: Path) -> Images:
    contents = lite0.contents_of(tar)
    return np.stack([preprocess(decode_rgb(next(contents)), lite0.HOW) for _ in range(8)])


def _without_antialias(image: Image.Image, how: Preprocessing) -> Images:
    """Resize as cv2 and torch's interpolate do: the nearest few pixels alone, however much is left out."""
    scale = min(image.size) / how.resize
    width, height = (max(how.resize, round(side / scale)) for side in image.size)
    corner = (scale, 0, 0, 0, scale, 0)
    small = image.transform((width, height), Image.Transform.AFFINE, corner, Image.Resampling.BICUBIC)
    return _centre(small, how)


def _nearest(image: Image.Image, how: Preprocessing) -> Images:
    scale = min(image.size) / how.resize
    size = tuple(max(how.resize, round(side / scale)) for side in image.size)
    return _centre(image.resize((size[0], size[1]), Image.Resampling.NEAREST), how)


def _squashed(image: Image.Image, how: Preprocessing) -> Images:
    return _centre(image.resize((how.resize, how.resize), Image.Resampling.BICUBIC), how)


def _centre(image: Image.Image, how: Preprocessing) -> Images:
    left, top = (image.width - how.size) // 2, (image.height - how.size) // 2
    return np.asarray(image.crop((left, top, left + how.size, top + how.size)))


def _preprocessed(change: Change, check: str = "score_difference") -> Mutant:
    return Mutant(FORM, Place("preprocessing"), change, downstream(FORM), check)


def _pixels(change: Change, check: str = "score_difference") -> Mutant:
    return Mutant(FORM, Place("runner"), images_of(change), downstream(FORM), check)


def _built(change: Change, check: str) -> Mutant:
    return Mutant(FORM, Place("build", "onnxruntime"), change, (f"build@{FORM}", *downstream(FORM)), check)


def _in_place_of(others: dict[int, int]) -> Mutant:
    """Return the mutant of an engine that gives each of these classes another one's score."""
    order = np.arange(lite0.CLASSES)
    order[list(others)] = list(others.values())
    return _built(graphs.on_logits(("Gather", [order])), "class_logit_difference")


def _per_channel(values: tuple[float, ...]) -> graphs.Array:
    return np.array(values, np.float32).reshape(1, 3, 1, 1)


def _other_normalisation() -> Change:
    """Return the graph's change from the network's own mean and deviation to the usual ones of ImageNet."""
    own_mean, own_std = (_per_channel(values) for values in (lite0.HOW.mean, lite0.HOW.std))
    mean, std = (_per_channel(IMAGENET[key]) for key in ("mean", "std"))
    return graphs.on_pixels(("Mul", own_std / std), ("Add", (own_mean - mean) / std))


PHOTOGRAPHS: dict[str, Mutant] = {
    "BGR for RGB": _pixels(lambda pixels: np.ascontiguousarray(pixels[..., ::-1]), "agreement"),
    "grey for colour": _pixels(
        lambda pixels: pixels.mean(3, keepdims=True).repeat(3, 3).astype(np.uint8), "agreement"
    ),
    "ImageNet's mean and deviation for the network's own": _built(_other_normalisation(), "agreement"),
    "resize without antialias": _preprocessed(lambda _: _without_antialias),
    "bilinear for bicubic": _preprocessed(with_how(interpolation="bilinear")),
    "nearest pixel for bicubic": _preprocessed(lambda _: _nearest),
    "crop one pixel off on photographs": _preprocessed(crop_moved(1, 1)),
    "sides squeezed to a square": _preprocessed(lambda _: _squashed, "agreement"),
    "two like classes of a thousand exchanged": _in_place_of({MISSILE: PROJECTILE, PROJECTILE: MISSILE}),
    "a class of a thousand with the weights of one like it": _in_place_of({MISSILE: PROJECTILE}),
    "short side to the crop's size": _preprocessed(lambda _: without_resize, "agreement"),
}
