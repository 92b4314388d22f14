"""A release's predict.py prepares each image exactly as training and evaluation did."""

import importlib.util
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from steps.images import preprocessing as ours
from steps.release import CONSUMERS
from steps.reports.card import Preprocessing
from steps.reports.release import ESCAPES


@pytest.fixture(scope="module")
def theirs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("released_predict", CONSUMERS / "predict.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def picture(mode: str, width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * height).integers(0, 256, (height, width, 4), dtype=np.uint8)
    rgba = Image.fromarray(values)
    if mode == "I;16":
        return Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    return rgba.convert(mode) if mode != "P" else rgba.convert("RGB").quantize(16)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", exif=exif)


ZOO: dict[str, Callable[[], bytes]] = {
    "RGB": lambda: encoded(picture("RGB", 40, 31), "PNG"),
    "grey": lambda: encoded(picture("L", 31, 40), "PNG"),
    "grey with alpha": lambda: encoded(picture("LA", 30, 30), "PNG"),
    "alpha": lambda: encoded(picture("RGBA", 64, 20), "PNG"),
    "palette": lambda: encoded(picture("P", 33, 17), "PNG"),
    "palette with transparency": lambda: encoded(picture("P", 33, 17), "PNG", transparency=3),
    "16 bits": lambda: encoded(picture("I;16", 20, 50), "PNG"),
    "one bit": lambda: encoded(picture("1", 20, 50), "PNG"),
    "very long": lambda: encoded(picture("RGB", 1000, 3), "PNG"),
    "very high": lambda: encoded(picture("RGB", 3, 1001), "PNG"),
    "CMYK": lambda: encoded(picture("CMYK", 41, 41), "JPEG"),
    "animated": lambda: encoded(picture("P", 30, 40), "GIF", save_all=True, append_images=[picture("P", 30, 40)]),
    **{f"turned {number}": partial(turned, picture("RGB", 50, 30), number) for number in range(1, 9)},
}


@pytest.mark.parametrize("kind", ZOO)
@pytest.mark.parametrize(
    ("size", "resize", "how"), [(16, 16, "bilinear"), (24, 32, "bicubic"), (64, 73, "bicubic")]
)
def test_an_image_of_any_kind_becomes_the_same_pixels(
    theirs: ModuleType, kind: str, size: int, resize: int, how: str
) -> None:
    content = ZOO[kind]()
    card = Preprocessing.model_validate(
        {"size": size, "resize": resize, "interpolation": how, "mean": (0, 0, 0), "std": (1, 1, 1)}
    )
    expected = ours.preprocess(ours.decode_rgb(content), card)
    found = theirs.preprocess(theirs.decode_rgb(content), card.model_dump())
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_a_folder_stands_for_all_images_below_it_in_order(theirs: ModuleType, tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/y.tif", "notes.txt", ".hidden.png", ".cache/c.png", "a/x.jp2", "film.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in theirs.images_of(tmp_path)]
    assert found == ["a/x.jp2", "a/y.tif", "a/z.JPG", "b.png"]
    assert list(theirs.images_of(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]  # named: tried


def test_every_image_of_a_folder_is_classified_and_an_empty_one_is_said(
    theirs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class OfOneClass:
        class_names = ("only",)

        def __init__(self, threads: int) -> None:
            pass

        def predict(self, content: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
            return np.ones(len(content))

    monkeypatch.setattr(theirs, "Classifier", OfOneClass)
    for name in ("some/b.png", "some/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    assert theirs.main([str(tmp_path / "some")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{tmp_path}/some/{name}.png\t0\tonly\t1.000000" for name in ("a", "b")]
    assert theirs.main([str(tmp_path / "empty"), str(tmp_path / "some")]) == 2
    message = capsys.readouterr()
    assert message.out.splitlines() == lines
    assert message.err == f"predict: {tmp_path}/empty holds no image.\n"


def test_whatever_a_path_and_a_name_hold_there_is_one_line_of_four_columns_a_class(
    theirs: ModuleType, tmp_path: Path
) -> None:
    names = ["back\\slash", "two\nlines\r", "tab\ttab"]
    classifier = object.__new__(theirs.Classifier)
    classifier.class_names, classifier.predict = names, lambda _: np.array([0.5, 0.3, 0.2])
    (tmp_path / "a\tb\n\\c.png").touch()
    lines = theirs.classify(classifier, tmp_path / "a\tb\n\\c.png", 3)
    image = rf"{tmp_path}/a\tb\n\\c.png"
    assert [line.split("\t") for line in lines] == [
        [image, "0", r"back\\slash", "0.500000"],
        [image, "1", r"two\nlines\r", "0.300000"],
        [image, "2", r"tab\ttab", "0.200000"],
    ]
    assert theirs.ESCAPES == ESCAPES  # labels.txt escapes names in the same way


def test_both_read_the_same_formats(theirs: ModuleType) -> None:
    assert theirs.FORMATS == ours.FORMATS
    assert theirs.FILTERS == ours.FILTERS
    assert theirs.MAX_ASPECT == ours.MAX_ASPECT


def test_a_decoder_may_raise_anything(theirs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(content: bytes) -> None:
        raise KeyError("no such marker")

    monkeypatch.setattr(theirs, "decode_rgb", broken)
    (tmp_path / "odd.png").write_bytes(b"x")
    classifier = object.__new__(theirs.Classifier)
    with pytest.raises(theirs.Unusable, match=r"odd\.png cannot be read as an image: 'no such marker'"):
        theirs.classify(classifier, tmp_path / "odd.png", 1)
    with pytest.raises(theirs.Unusable, match=r"absent\.png cannot be read: No such file"):
        theirs.classify(classifier, tmp_path / "absent.png", 1)


def test_an_interruption_is_one_sentence(
    theirs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(threads: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(theirs, "Classifier", interrupted)
    assert theirs.main([str(tmp_path)]) == 130
    assert capsys.readouterr().err == "predict: interrupted.\n"
