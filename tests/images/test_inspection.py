"""A collection of damaged and unusual files: each gets the right fault name, and none counts as valid."""

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steps.images import inspection
from steps.images.faults import FAULTS, UNREADABLE, faults_of
from steps.images.inspection import FileRange, inspect_bytes, inspect_image
from steps.images.preprocessing import MAX_ASPECT, decode_rgb

NOISE_HWC = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
PHOTO = Image.fromarray(NOISE_HWC)
GREY = PHOTO.convert("L")
DEEP = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)


def encoded(image: Image.Image, kind: str, **how: Any) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **how)
    return content.getvalue()


JPEG, PNG = encoded(PHOTO, "JPEG"), encoded(PHOTO, "PNG")


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(PHOTO, "JPEG", exif=exif)


def garbage_in_the_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + b"\x12\xff\xd9\x34" * 5 + content[middle + 20 :]


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colours: int, pixels: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")


ZOO: dict[str, tuple[str, bytes, tuple[str, ...]]] = {
    "jpeg": ("a.jpg", JPEG, ()),
    "grey jpeg": ("a.jpeg", encoded(GREY, "JPEG"), ()),
    "progressive jpeg": ("a.jpg", encoded(PHOTO, "JPEG", progressive=True), ()),
    "png": ("a.png", PNG, ()),
    "grey png": ("a.png", encoded(GREY, "PNG"), ()),
    "one bit png": ("a.png", encoded(PHOTO.convert("1"), "PNG"), ()),
    "webp": ("a.webp", encoded(PHOTO, "WEBP"), ()),
    "bmp": ("a.bmp", encoded(PHOTO, "BMP"), ()),
    "tiff": ("a.TIF", encoded(PHOTO, "TIFF"), ()),
    "ppm": ("a.ppm", encoded(PHOTO, "PPM"), ()),
    "no extension": ("a", PNG, ()),
    "no bytes": ("a.jpg", b"", ("empty",)),
    "text": ("a.jpg", b"this is no image at all", ("not_an_image",)),
    "postscript": ("a.jpg", encoded(PHOTO, "EPS"), ("not_an_image",)),
    "jpeg cut by 2 bytes": ("a.jpg", JPEG[:-2], ("truncated",)),
    "jpeg cut in half": ("a.jpg", JPEG[: len(JPEG) // 2], ("truncated",)),
    "jpeg with garbage": ("a.jpg", garbage_in_the_middle(JPEG), ("corrupt",)),
    "png without its end": ("a.png", PNG[:-12], ("truncated",)),
    "png cut in half": ("a.png", PNG[: len(PNG) // 2], ("truncated",)),
    "png with garbage": ("a.png", garbage_in_the_middle(PNG), ("corrupt",)),
    "gif cut in half": ("a.gif", encoded(GREY, "GIF")[:1500], ("truncated", "palette")),
    "webp cut in half": ("a.webp", encoded(PHOTO, "WEBP")[:200], ("corrupt",)),
    "bomb": ("a.png", png(30_000, 30_000, 1, 0, b""), ("bomb",)),
    "small bomb": ("a.png", png(10_000, 9_500, 1, 0, b""), ("bomb",)),
    "png called jpg": ("a.jpg", PNG, ("wrong_extension",)),
    "png called txt": ("a.heic", PNG, ("wrong_extension",)),
    "cmyk jpeg": ("a.jpg", encoded(PHOTO.convert("CMYK"), "JPEG"), ("cmyk",)),
    "16-bit grey": ("a.png", encoded(DEEP, "PNG"), ("sixteen_bit",)),
    "16-bit rgb": ("a.png", png(2, 1, 16, 2, b"\0" + bytes(12)), ("sixteen_bit",)),
    "float tiff": ("a.tif", encoded(GREY.convert("F"), "TIFF"), ("unusual_mode",)),
    "palette": ("a.png", encoded(PHOTO.convert("P"), "PNG"), ("palette",)),
    "transparent palette": ("a.png", encoded(PHOTO.convert("P"), "PNG", transparency=0), ("palette", "alpha")),
    "alpha": ("a.png", encoded(PHOTO.convert("RGBA"), "PNG"), ("alpha",)),
    "grey with alpha": ("a.png", encoded(PHOTO.convert("LA"), "PNG"), ("alpha",)),
    "animated png": (
        "a.png",
        encoded(PHOTO, "PNG", save_all=True, append_images=[GREY.convert("RGB")]),
        ("animated",),
    ),
    "pages": ("a.tif", encoded(PHOTO, "TIFF", save_all=True, append_images=[PHOTO]), ("animated",)),
    "two pictures": ("a.jpg", encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO]), ()),
    "50 times as long": ("a.png", png(400, 8, 1, 0, bytes(8 * 51)), ()),
    "longer": ("a.png", png(401, 8, 1, 0, bytes(8 * 52)), ("elongated",)),
    "higher": ("a.png", png(1, 51, 1, 0, bytes(51 * 2)), ("elongated",)),
    "rotated": ("a.jpg", rotated(), ("rotated",)),
    "cut and renamed": ("a.png", JPEG[:-2], ("truncated", "wrong_extension")),
}


@pytest.mark.parametrize("animal", ZOO)
def test_each_file_gets_its_right_name(animal: str) -> None:
    name, content, faults = ZOO[animal]
    facts = inspect_bytes(content, name)
    assert facts.faults == faults, facts.detail
    assert facts.length == len(content)
    assert facts.detail is None or "\n" not in facts.detail


@pytest.mark.parametrize(
    "animal", [animal for animal, (_, _, faults) in ZOO.items() if not UNREADABLE & set(faults)]
)
def test_what_is_not_called_unreadable_can_be_decoded(animal: str) -> None:
    assert decode_rgb(ZOO[animal][1]).mode == "RGB"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.6, 0.95])
def test_a_file_cut_short_never_passes_for_sound(kind: str, keep: float) -> None:
    content = encoded(PHOTO, kind)
    facts = inspect_bytes(content[: int(len(content) * keep)], "a")
    assert UNREADABLE & set(facts.faults)


NOT_IMAGES = {
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a photograph in HEIC; convert it to JPEG or PNG"),
    "heif": (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a photograph in HEIF"),
    "mp4": (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "a video"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>', "an SVG drawing"),
    "svg with a prologue": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- x -->\n<svg width="1">', "an SVG drawing"),
    "dicom": (bytes(128) + b"DICM" + bytes(99), "a DICOM file"),
    "html": (b"\n<!DOCTYPE html>\n<html><title>404</title><svg ></svg></html>", "an HTML page"),
    "html without a doctype": (b"<HTML><body>Moved</body></HTML>", "an HTML page"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "a Git LFS pointer; run",
    ),
    "annex": (b"/annex/objects/SHA256E-s1--0.jpg\n", "a git-annex pointer"),
    "pdf": (b"%PDF-1.7\n", "a PDF document"),
    "zip": (b"PK\x03\x04" + bytes(99), "a zip archive"),
    "numpy": (b"\x93NUMPY\x01\0", "a NumPy array"),
    "jxl": (b"\xff\x0a\xfa\x7f", "a JPEG XL image"),
    "zeros": (bytes(9999), "a file of zeros"),
    "json": (b'{"error": "not found"}', "a JSON file"),
    "text": ("M\u00fcll\n".encode() * 2000, "a text file"),
}


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_a_file_that_is_not_an_image_is_called_by_its_kind(kind: str) -> None:
    content, meaning = NOT_IMAGES[kind]
    facts = inspect_bytes(content, "a.jpg")
    assert facts.faults == ("not_an_image",)
    assert facts.detail is not None and facts.detail.startswith(meaning)


def test_bytes_of_an_unknown_kind_are_not_an_image_without_a_kind() -> None:
    facts = inspect_bytes(b"\x01\x02\x03\x04" * 20, "a.jpg")
    assert (facts.faults, facts.detail) == (("not_an_image",), None)


def test_facts_are_those_of_the_stored_image() -> None:
    facts = inspect_bytes(rotated(), "a.jpg")
    assert (facts.width, facts.height, facts.mode, facts.format) == (40, 48, "RGB", "JPEG")
    assert (facts.frames, facts.orientation) == (1, 6)


def test_equal_bytes_have_one_checksum_and_others_another() -> None:
    first, second, other = inspect_bytes(PNG, "a.png"), inspect_bytes(PNG, "b.png"), inspect_bytes(JPEG, "a.jpg")
    assert first.checksum == second.checksum != other.checksum


def test_only_files_inside_the_root_are_opened(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(PNG)
    (root / "inside.png").write_bytes(PNG)
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "in.png").symlink_to("inside.png")
    (root / "dangling.png").symlink_to("nowhere.png")
    (root / "loop.png").symlink_to("loop.png")
    os.mkfifo(root / "pipe.png")
    expected: dict[str, tuple[str, ...]] = {
        "inside.png": (),
        "in.png": (),
        "out.png": ("outside_root",),
        "../secret.png": ("outside_root",),
        "folder": ("not_a_file",),
        "pipe.png": ("not_a_file",),
        "dangling.png": ("missing",),
        "loop.png": ("missing",),
        "nothing.png": ("missing",),
        "inside.png/x.png": ("missing",),
        "x" * 300: ("missing",),
    }
    assert {file: inspect_image(root, FileRange(file)).faults for file in expected} == expected


def test_a_file_that_may_not_be_read_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(PNG)

    def forbidden(*_: object) -> int:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(os, "open", forbidden)
    facts = inspect_image(tmp_path, FileRange("a.png"))
    assert facts.faults == ("no_permission",)
    assert facts.detail == "Permission denied"  # an absolute path would give equal data different bytes


def test_too_many_bytes_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.bmp").open("wb") as file:
        file.truncate(inspection.MAX_BYTES + 1)
    assert inspect_image(tmp_path, FileRange("a.bmp")).faults == ("bomb",)


def test_a_part_of_a_file_is_read_alone(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(b"before" + PNG + b"after")
    facts = inspect_image(tmp_path, FileRange("shard.tar", 6, len(PNG)))
    assert facts == inspect_bytes(PNG, "a.png")


def test_the_longest_shape_that_is_called_sound_is_the_one_that_is_used_whole() -> None:
    assert f"{MAX_ASPECT} times" in FAULTS["elongated"].meaning


def test_every_kind_of_fault_has_names() -> None:
    kinds = {fault.kind for fault in FAULTS.values()}
    assert sorted(name for kind in kinds for name in faults_of(kind)) == sorted(FAULTS)
    assert set(faults_of("unreadable")) == UNREADABLE
