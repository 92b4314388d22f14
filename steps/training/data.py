"""The images of train and val with their labels, and the probes that the model artifact carries.

Letters: N images, K classes.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from steps.errors import BadInput
from steps.images.cache import ImageReader
from steps.images.draws import Positions, permuted
from steps.images.manifest import read_manifest
from steps.models.files import ProbeImages
from steps.training.samplers import Labels


@dataclass(frozen=True)
class LabelledImages:
    """The rows of train and val, in the manifest's order; `train_N` and `val_N` are row numbers in it."""

    manifest: pl.DataFrame
    labels_N: Labels
    train_N: Positions
    val_N: Positions

    def unused_ids(self, class_num: int) -> tuple[int, ...]:
        """Return the class ids that no image is trained on."""
        images_K = np.bincount(self.labels_N[self.train_N], minlength=class_num)
        return tuple(np.flatnonzero(images_K == 0).tolist())

    def digest(self) -> str:
        """Return a checksum of labels and splits; the cache key holds the checksums of the images."""
        parts = (self.labels_N, self.train_N, self.val_N)
        return hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in parts)).hexdigest()


def read_images(path: Path, class_num: int) -> LabelledImages:
    """Return the images of train and val; raise BadInput where a network cannot learn from them."""
    manifest = read_manifest(path).filter(pl.col("split").is_in(["train", "val"]))
    splits = manifest.get_column("split")
    labels_N = manifest.get_column("label").to_numpy().astype(np.int64)
    images = LabelledImages(
        manifest=manifest,
        labels_N=labels_N,
        train_N=np.flatnonzero((splits == "train").to_numpy()),
        val_N=np.flatnonzero((splits == "val").to_numpy()),
    )
    if len(images.train_N) < 2 or not len(images.val_N):
        raise BadInput(
            f"{path} has {len(images.train_N)} images to train on and {len(images.val_N)} in val; "
            "at least 2 and 1 are needed. Add images or change split.val."
        )
    if "weight" in manifest.columns and (manifest.get_column("weight") != 1).any():
        raise BadInput(
            f"{path} has different weights for images, and no sampler uses weights yet; set the weights to 1."
        )
    outside = labels_N[(labels_N < 0) | (labels_N >= class_num)]
    if len(outside):
        raise BadInput(
            f"{path} has {len(outside)} labels outside 0 .. {class_num - 1}, the first is {outside[0]}; "
            f"set class_num to {int(labels_N.max()) + 1} or to auto, or run validate."
        )
    return images


def in_batches(rows_N: Positions, size: int = 256) -> list[Positions]:
    """Return the rows in order, in batches of at most `size`."""
    return np.split(rows_N, range(size, len(rows_N), size))


def choose_probes(images: LabelledImages, reader: ImageReader, seed: int, count: int) -> ProbeImages:
    """Return `count` preprocessed val images, chosen by the seed; all of val where val has fewer."""
    total = len(images.val_N)
    chosen_N = np.sort(permuted(seed, 0, "probes", np.arange(min(count, total)), total))
    rows_N = images.val_N[chosen_N]
    return ProbeImages(
        images_NHWC_u8=next(iter(reader.read([rows_N]))),
        names=tuple(images.manifest.get_column("name").gather(rows_N).to_list()),
        labels=tuple(images.labels_N[rows_N].tolist()),
    )
