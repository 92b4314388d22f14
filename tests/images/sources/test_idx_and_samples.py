"""Idx files and named samples: images that come as arrays."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steps.errors import BadInput, Refused
from steps.images.sources.samples import SAMPLES
from tests.images.sources.planted import listed


def idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def plant_idx(root: Path) -> Path:
    images = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    (root / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images[:3])))
    (root / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([0, 2, 0], np.uint8))))
    (root / "t10k-images-idx3-ubyte").write_bytes(idx(images[3:]))
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([2, 1], np.uint8)))
    return root


def test_idx_files_with_their_splits(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("shirt\ncoat\nbag\n")
    layout, listing = listed(plant_idx(tmp_path), label_names="names.txt")
    assert layout == "idx"
    assert listing.rows.sort("split")["label"].to_list() == [2, 1, 0, 2, 0]
    assert listing.rows["split"].value_counts().sort("split").rows() == [("test", 2), ("train", 3)]
    assert listing.class_names == {0: "shirt", 1: "coat", 2: "bag"}
    assert listing.pixels is not None
    assert listing.pixels[0].tolist()[0] == [36, 37, 38]  # t10k is before train


def test_one_idx_file(tmp_path: Path) -> None:
    _, listing = listed(plant_idx(tmp_path) / "train-images-idx3-ubyte.gz", layout="idx")
    assert listing.rows["label"].to_list() == [0, 2, 0]


@pytest.mark.parametrize("damage", [b"", b"\0\0\x08\x03\0\0", idx(np.array([1, 2], np.uint8))[:-1]])
def test_a_damaged_idx_file_is_refused(tmp_path: Path, damage: bytes) -> None:
    (plant_idx(tmp_path) / "t10k-labels-idx1-ubyte").write_bytes(damage)
    with pytest.raises(Refused, match="not an idx file of bytes"):
        listed(tmp_path)


@pytest.mark.parametrize(("name", "images", "fewest"), [("mnist5k", 5000, 500), ("digits", 1797, 174)])
def test_samples_that_are_always_there(name: str, images: int, fewest: int) -> None:
    listing = SAMPLES[name]()
    counts = listing.rows["label"].value_counts()["count"]
    assert (listing.rows.height, len(counts), counts.min()) == (images, 10, fewest)
    assert listing.pixels is not None
    assert max(image.max() for image in listing.pixels) == 255


def test_descriptors_in_git_name_samples(tmp_path: Path) -> None:
    folder = Path(__file__).parents[3] / "data/samples"
    assert {path.read_text().rpartition("sample: ")[2].strip() for path in folder.iterdir()} == set(SAMPLES)
    (tmp_path / "x.yaml").write_text("sample: mnist5")
    with pytest.raises(BadInput, match=r"no sample 'mnist5'.*Did you mean 'mnist5k'"):
        listed(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("- mnist5k")
    with pytest.raises(BadInput, match="`sample: <name>`"):
        listed(tmp_path / "x.yaml")
