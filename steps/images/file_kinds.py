"""The kind of a file that is not an image, found by its first bytes, for the person who replaces the file."""

import re

CONVERT = "convert it to JPEG or PNG"
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer; run `git lfs pull`"),
    (b"/annex/objects/", "a git-annex pointer; run `git annex get`"),
    (b"outs:\n- ", "a pointer of DVC; run `dvc pull`"),
    (b"%PDF", f"a PDF document; {CONVERT}"),
    (b"%!PS", f"a PostScript file; {CONVERT}"),
    (b"\xc5\xd0\xd3\xc6", f"a PostScript file; {CONVERT}"),
    (b"8BPS", f"a Photoshop file; {CONVERT}"),
    (b"\xff\x0a", f"a JPEG XL image; {CONVERT}"),
    (b"\0\0\0\x0cJXL ", f"a JPEG XL image; {CONVERT}"),
    (b"\x76\x2f\x31\x01", f"an OpenEXR image; {CONVERT}"),
    (b"#?RADIANCE", f"a Radiance HDR image; {CONVERT}"),
    (b"SIMPLE  =", f"a FITS image; {CONVERT}"),
    (b"qoif", f"a QOI image; {CONVERT}"),
    (b"DDS ", f"a DDS texture; {CONVERT}"),
    (b"gimp xcf", f"a GIMP file; {CONVERT}"),
    (b"\x93NUMPY", f"a NumPy array; {CONVERT}"),
    (b"\x89HDF\r\n", f"an HDF5 file; {CONVERT}"),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"\x1f\x8b", "a gzip file; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it"),
    (b"BZh", "a bzip2 file; unpack it"),
    (b"\xfd7zXZ", "an xz file; unpack it"),
    (b"SQLite format 3", "an SQLite database; remove it"),
    (b"\0\x05\x16\x07", "an AppleDouble file of macOS without an image; remove it"),
    (b"\x1aE\xdf\xa3", "a video; extract its frames"),
    (b"OggS", "a video; extract its frames"),
    (b"\0\0\x01\xba", "a video; extract its frames"),
)
MEDIA_BRANDS = {  # of ISO base media files (ISO/IEC 14496-12), at byte 8
    b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC", b"heim": "HEIC", b"heis": "HEIC",
    b"mif1": "HEIF", b"msf1": "HEIF", b"avif": "AVIF", b"avis": "AVIF",
}  # fmt: skip
LOOK_AT = 4096
HTML = re.compile(rb"\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body|title)\b", re.I | re.S)
SVG = re.compile(rb"<svg[\s>]", re.I)
TEXT_BYTES = frozenset(range(32, 256)) | {9, 10, 12, 13}


def kind_of_file(content: bytes) -> str | None:
    """Return what the file is and what helps, such as "a zip archive; unpack it"; None where this is not known."""
    beginning = content[:LOOK_AT].removeprefix(b"\xef\xbb\xbf")
    known = next((kind for magic, kind in BEGINNINGS if beginning.startswith(magic)), None)
    if known:
        return known
    if beginning[128:132] == b"DICM":
        return f"a DICOM file; {CONVERT}"
    if beginning[4:8] == b"ftyp":
        brand = MEDIA_BRANDS.get(beginning[8:12])
        return f"a photograph in {brand}; {CONVERT}" if brand else "a video; extract its frames"
    if beginning[:4] == b"RIFF" and beginning[8:12] == b"AVI ":
        return "a video; extract its frames"
    if beginning[257:262] == b"ustar":
        return "a tar archive; unpack it"
    return "a file of zeros, such as an interrupted copy leaves" if not any(content) else _kind_of_text(beginning)


def _kind_of_text(beginning: bytes) -> str | None:
    if HTML.match(beginning):
        return "an HTML page, such as a server sends in place of an image; download the image again"
    text = beginning.lstrip()
    if SVG.search(beginning) and text[:1] == b"<":
        return f"an SVG drawing; {CONVERT}"
    if not TEXT_BYTES.issuperset(beginning) or not _is_utf8(beginning):
        return None
    if text[:5] == b"<?xml":
        return "an XML file; replace or remove it"
    return "a JSON file; replace or remove it" if text[:1] in (b"{", b"[") else "a text file; replace or remove it"


def _is_utf8(beginning: bytes) -> bool:
    """Tell whether the bytes are UTF-8; the last letter may be cut."""
    try:
        beginning.decode()
    except UnicodeDecodeError as fault:
        return len(beginning) == LOOK_AT and fault.start > LOOK_AT - 4
    return True
