"""Images of a manifest: exactly the ingested bytes, from inside the root; an error names the image."""

import hashlib
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from steps.errors import BadInput
from steps.images.cache import open_images
from steps.images.dataset import PLACE, Row, batches_as_they_are, load_all, load_image, read_bytes
from steps.reports.card import Preprocessing

HOW = Preprocessing(size=8, resize=8, interpolation="bilinear", mean=(0, 0, 0), std=(1, 1, 1))


def plant(file: Path, seed: int) -> Row:
    """Write an uncompressed image, with different content of the same length for each seed; return its row."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(file, "BMP")
    content = file.read_bytes()
    return (file.name, file.name, 0, len(content), hashlib.sha256(content).hexdigest())


def test_an_image_overwritten_by_another_of_its_length_is_refused_by_name(tmp_path: Path) -> None:
    row = plant(tmp_path / "a.bmp", 0)
    load_image(tmp_path, row, HOW)
    assert plant(tmp_path / "a.bmp", 1)[3] == row[3]
    manifest = pl.DataFrame([row], list(PLACE), orient="row")
    changed = r"image a\.bmp: .*a\.bmp has changed since it was ingested; run ingest again"
    with pytest.raises(BadInput, match=changed):
        load_all(manifest, tmp_path, HOW)
    for bound in (0, 10**6):  # read from the files in each batch, and read into the cache
        with pytest.raises(BadInput, match=changed):
            list(open_images(manifest, tmp_path, HOW, tmp_path / "cache", bound).read([np.array([0])]))


@pytest.mark.parametrize("absolute", [False, True])
def test_a_path_out_of_the_root_is_not_read_even_with_the_right_checksum(tmp_path: Path, absolute: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    _, name, *place = plant(tmp_path / "x.bmp", 0)
    file = str(tmp_path / name) if absolute else f"../{name}"
    with pytest.raises(BadInput, match=r"image x: .*x\.bmp lies outside .*root.*run ingest again"):
        read_bytes(root, ("x", file, *place))  # type: ignore[arg-type]


def test_a_link_is_followed_inside_the_root_only(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    inside, outside = plant(root / "in.bmp", 0), plant(tmp_path / "out.bmp", 1)
    (root / "a").symlink_to("in.bmp")
    (root / "b").symlink_to(tmp_path / "out.bmp")
    assert len(read_bytes(root, ("a", "a", *inside[2:]))) == inside[3]
    with pytest.raises(BadInput, match="image b: b lies outside"):
        read_bytes(root, ("b", "b", *outside[2:]))


def test_a_root_that_is_a_link_or_relative_is_as_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    row = plant(tmp_path / "images/a.bmp", 0)
    (tmp_path / "link").symlink_to("images")
    monkeypatch.chdir(tmp_path)
    for root in ("link", "images", os.fspath(tmp_path / "link")):
        assert len(read_bytes(Path(root), row)) == row[3]


def test_images_as_they_are_come_in_order_with_neighbours_of_one_size_together(tmp_path: Path) -> None:
    shapes = [(4, 6)] * 3 + [(6, 4)] + [(4, 6)] * 2 + [(5, 5)] * 7
    rows, pixels = [], []
    for number, shape in enumerate(shapes):
        pixels.append(np.random.default_rng(number).integers(0, 256, (*shape, 3), np.uint8))
        file = tmp_path / f"{number:02}.png"
        Image.fromarray(pixels[-1]).save(file)
        content = file.read_bytes()
        rows.append((file.name, file.name, 0, len(content), hashlib.sha256(content).hexdigest()))
    manifest = pl.DataFrame(rows, list(PLACE), orient="row")
    found = list(batches_as_they_are(manifest, tmp_path, size=4))
    assert [batch.shape[:3] for batch in found] == [(3, 4, 6), (1, 6, 4), (2, 4, 6), (4, 5, 5), (3, 5, 5)]
    for image, wanted in zip((image for batch in found for image in batch), pixels, strict=True):
        assert np.array_equal(image, wanted)


def test_a_batch_of_large_images_is_bounded_by_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.images.dataset.MOST_PIXELS", 150)  # each image has 64 pixels
    manifest = pl.DataFrame([plant(tmp_path / f"{n}.bmp", n) for n in range(5)], list(PLACE), orient="row")
    assert [len(batch) for batch in batches_as_they_are(manifest, tmp_path, size=64)] == [2, 2, 1]
