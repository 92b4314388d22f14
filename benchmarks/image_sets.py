"""Sets of real images for reparam_gain: Fashion-MNIST, or a folder or tar of JPEG files, stored to be mapped."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from steps.errors import BadInput
from steps.images.dataset import Images
from steps.images.sources.samples import fashion_mnist
from steps.training.samplers import Labels


def store(folder: Path, images_NHWC_u8: Images, labels_N: Labels, train: int) -> None:
    """Write the images where every process can map them; the first `train` of them are for training."""
    folder.mkdir()
    np.save(folder / "images.npy", images_NHWC_u8)
    np.save(folder / "labels.npy", labels_N)
    np.save(folder / "sizes.npy", np.array([train, len(labels_N) - train]))


def fashion() -> tuple[Images, Labels, int]:
    """Return Fashion-MNIST in three equal channels, its labels, and how many are for training, the first ones."""
    listing = fashion_mnist()
    assert listing.pixels is not None
    images_NHW_u8 = np.stack(listing.pixels)
    labels_N = listing.rows["label"].to_numpy().astype(np.int64)
    train = int((listing.rows["split"] == "train").sum())
    return np.repeat(images_NHW_u8[..., None], 3, axis=3), labels_N, train


def read_images(path: Path) -> tuple[Images, Labels, int]:
    """Return the images of a folder or tar, those of train first, with the classes in the order of their names.

    Raises BadInput where that is not there, or holds no images to train on and to test, of one size.
    """
    try:
        files = sorted(_files(path), key=lambda file: (file[0] != "train", file[1]))
        images = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for _, _, content in files]
    except (OSError, ValueError, tarfile.TarError) as fault:
        message = " ".join(str(fault).split())[:200]
        raise BadInput(f"--images {path} is no folder or tar of <split>/<class>/<image>: {message}.") from fault
    splits, shapes = {split for split, _, _ in files}, {image.shape for image in images}
    if "train" not in splits or len(splits) < 2 or len(shapes) != 1:
        raise BadInput(
            f"--images {path} holds {len(images)} images of {len(shapes)} sizes in {', '.join(sorted(splits))}; "
            "train/<class>/* and test/<class>/* of one size are needed."
        )
    classes = sorted({name for _, name, _ in files})
    labels_N = np.array([classes.index(name) for _, name, _ in files], dtype=np.int64)
    return np.stack(images), labels_N, sum(split == "train" for split, _, _ in files)


def _files(path: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield (split, class, content) of each image file."""
    if path.is_dir():
        for file in sorted(path.glob("*/*/*")):
            yield file.parts[-3], file.parts[-2], file.read_bytes()
        return
    with tarfile.open(path) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                split, name, _ = member.name.split("/")[-3:]
                yield split, name, content.read()
