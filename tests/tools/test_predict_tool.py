"""tools.predict: the classes and probabilities of evaluate, for folders of any size, in three formats."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from steps.backends.contract import Images, Logits
from steps.errors import BadInput
from steps.images.preprocess import decode_rgb
from steps.reports.release import write_sums
from tests.backends.tiny import NAMES, ROOT
from tests.released import SIZES, Released, make_release, picture
from tools import predict as tool
from tools import predict_images
from tools.predict import open_release, predict
from tools.predict_images import Unusable, images_of
from tools.predict_output import Prediction, as_csv, as_json, as_table

FORMS = {"model": "export", "onnxruntime-fp32": "onnxruntime-fp32", "openvino-fp32": "openvino-fp32"}
Ended = tuple[int, str, str]
Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Released:
    return make_release(tmp_path_factory.mktemp("released"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The tool's command line, run in this process: it returns exit code, stdout and stderr."""

    def command(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            tool.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines(keepends=True)))


@pytest.mark.parametrize("engine", FORMS)
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_any_form_gives_the_classes_and_probabilities_of_evaluate(
    released: Released, run: Run, tmp_path: Path, engine: str, batch: int
) -> None:
    flags = ["--release", released.folder, "--engine", engine, "--batch", batch, "--threads", 1, "--top", 4]
    code, _, said = run(*released.images, *flags, "--format", "json", "--out", tmp_path / "all.json")
    assert (code, said) == (0, "")
    found = json.loads((tmp_path / "all.json").read_text())
    assert [image["image"] for image in found] == list(map(str, released.images))
    expected_NK = released.shares_NK[FORMS[engine]]
    assert [image["classes"][0]["class_id"] for image in found] == list(expected_NK.argmax(axis=1))
    for image, expected_K in zip(found, expected_NK, strict=True):
        for row in image["classes"]:
            assert row["class"] == NAMES[row["class_id"]]
            assert abs(row["probability"] - expected_K[row["class_id"]]) <= 1e-3


def test_the_formats_say_the_same(released: Released, run: Run) -> None:
    flags = ["--release", released.folder, "--top", 2]
    folder = released.images[0].parent
    table, rows, listed = (run(folder, *flags, "--format", kind)[1] for kind in ("table", "csv", "json"))
    from_csv = [(row["image"], row["class"], float(row["probability"])) for row in _rows(rows)]
    from_json = [
        (image["image"], row["class"], row["probability"])
        for image in json.loads(listed)
        for row in image["classes"]
    ]
    words = [line.split() for line in table.splitlines()]
    assert words[0] == ["probability", "class", "image"]
    assert from_csv == from_json == [(image, name, float(share)) for share, name, image in words[1:]]
    assert len(from_csv) == 2 * len(released.images)


def test_images_that_cannot_be_read_are_named_and_the_others_classified(
    released: Released, run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    (folder / "empty").mkdir(parents=True)
    picture(30, 20).save(folder / "a.png")
    picture(30, 20).save(folder / "c.jpg")
    (folder / "b.jpg").write_bytes((folder / "c.jpg").read_bytes()[:200])
    (folder / "d.png").write_bytes(b"")
    code, shown, said = run(
        folder, tmp_path / "absent.png", folder / "empty", "--release", released.folder, "--format", "csv"
    )
    assert code == 2
    assert [row["image"] for row in _rows(shown)] == [f"{folder}/a.png", f"{folder}/c.jpg"]
    lines = said.splitlines()
    assert [line.split(" ")[1] for line in lines[:-1]] == [
        f"{folder}/b.jpg", f"{folder}/d.png", f"{tmp_path}/absent.png", f"{folder}/empty",
    ]  # fmt: skip
    assert lines[-1] == "predict: 4 could not be classified."


def test_a_decoder_that_raises_anything_spoils_one_image_only(
    released: Released, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (odd, content), sound = (released.images[1], released.images[1].read_bytes()), released.images[0]

    def fragile(read: bytes) -> object:
        if read == content:
            raise KeyError("no such marker")
        return decode_rgb(read)

    monkeypatch.setattr(predict_images, "decode_rgb", fragile)
    code, shown, said = run(odd, sound, "--release", released.folder, "--format", "csv")
    assert code == 2 and str(sound) in shown and str(odd) not in shown and str(odd) in said


def test_a_bomb_is_not_decoded(released: Released, run: Run, tmp_path: Path) -> None:
    (tmp_path / "bomb.ppm").write_bytes(b"P6\n30000 30000\n255\n" + bytes(100))
    code, _, said = run(tmp_path / "bomb.ppm", "--release", released.folder)
    assert code == 2 and "bomb.ppm cannot be read as an image" in said and "exceeds limit" in said


def test_a_folder_is_walked_in_the_order_of_paths_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.JPG", "a/y.tif", "a.png", "a b/q.png", "notes.txt", ".hidden.png", ".cache/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "circle").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    wanted = [Path(name) for name in ("a/y.tif", "a/z.JPG", "a b/q.png", "a.png", "b.png")]
    assert [found.relative_to(tmp_path) for found in images_of(tmp_path) if isinstance(found, Path)] == wanted
    assert wanted == sorted(wanted)


def test_a_million_images_are_taken_a_few_at_a_time(released: Released) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        while True:
            taken += 1
            yield released.images[taken % 3]

    def scores(images_NHWC_u8: Images) -> Logits:
        assert len(images_NHWC_u8) <= 4
        return np.zeros((len(images_NHWC_u8), len(NAMES)), np.float32)

    for given, _ in enumerate(islice(predict(endless(), scores, released.card, batch=4), 100)):
        assert taken - given <= 4 * 4


def test_an_engine_of_any_size_is_given_the_images_as_they_are_and_none_too_large(released: Released) -> None:
    card = released.card.model_copy(update={"form": "tensorrt-fp16", "takes": "any", "max_side": 400})
    seen: list[tuple[int, ...]] = []

    def scores(images_NHWC_u8: Images) -> Logits:
        seen.extend([images_NHWC_u8.shape[1:3]] * len(images_NHWC_u8))
        return np.zeros((len(images_NHWC_u8), len(NAMES)), np.float32)

    found = list(predict(released.images, scores, card))
    assert seen == [(height, width) for width, height in SIZES if max(width, height) <= 400]
    large = [one for one in found if isinstance(one, Unusable)]
    assert [one.image for one in found if isinstance(one, Prediction)] == released.images[:-1]
    assert (
        len(large) == 1 and "10.png cannot be classified: tensorrt-fp16 takes images of up to 400" in large[0].why
    )


def test_scores_that_are_not_finite_are_no_prediction(released: Released) -> None:
    def scores(images_NHWC_u8: Images) -> Logits:
        return np.full((len(images_NHWC_u8), len(NAMES)), np.nan, np.float32)

    with pytest.raises(BadInput, match="finite scores"):
        list(predict(released.images, scores, released.card))


def test_the_champion_is_a_release_too(released: Released, tmp_path: Path) -> None:
    champion = tmp_path / "champion"
    champion.mkdir()
    (champion / "champion.json").write_text('{"accepted": false}')
    with pytest.raises(BadInput, match="holds no accepted release yet"):
        open_release(champion)
    shutil.copytree(released.folder, champion / "release")
    (champion / "champion.json").write_text('{"accepted": true}')
    assert open_release(champion)[1] == open_release(champion / "release")[1] == released.card


WRONG: dict[str, tuple[list[str], str]] = {
    "an engine that was not released": (["--engine", "openvino-fp16"], "Did you mean 'openvino-fp32'"),
    "a path for an engine": (["--engine", "../model"], "holds no engine '../model'"),
    "no release": (["--release", "nowhere"], "nowhere is no release: it has no SHA256SUMS"),
    "a folder to write": (["--out", "."], "--out . is a folder"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_flags_end_in_one_sentence_and_exit_2(released: Released, run: Run, kind: str) -> None:
    flags, sentence = WRONG[kind]
    code, shown, said = run(released.images[0], "--release", released.folder, *flags)
    assert (code, shown) == (2, "")
    assert said.startswith("predict: ") and sentence in said and len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["model/model.onnx", "labels.txt"])
def test_a_release_that_was_changed_is_not_used(released: Released, run: Run, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(released.folder, tmp_path / "release")
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    code, shown, said = run(released.images[0], "--release", copy)
    assert (code, shown) == (2, "") and f"{copy}/{name} is not the file that SHA256SUMS names" in said
    write_sums(copy)  # sealed anew, the card still knows its model
    assert run(released.images[0], "--release", copy)[0] == (2 if name.startswith("model") else 0)


def test_out_is_written_whole_or_not_at_all(
    released: Released, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new/all.csv"
    flags = ["--release", released.folder, "--format", "csv", "--out", out]
    assert run(*released.images, *flags)[0] == 0
    before = out.read_bytes()

    def broken(*_: object) -> Iterator[Prediction | Unusable]:
        yield Prediction(released.images[0], (0,), (1.0,))
        raise BadInput("the engine broke.")

    monkeypatch.setattr(tool, "predict", broken)
    assert run(*released.images, *flags)[0] == 2
    assert out.read_bytes() == before and list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_names_survive_the_formats_for_programs(kind: str) -> None:
    names = ('comma, "quote"', "two\nlines", "ключ \x1b[31m")
    found = [Prediction(Path(f"a,b/{number}\n.png"), (number,), (0.5,)) for number in range(3)]
    text = "".join({"csv": as_csv, "json": as_json}[kind](found, names))
    if kind == "csv":
        rows = [(row["image"], row["class"]) for row in _rows(text)]
    else:
        rows = [(image["image"], image["classes"][0]["class"]) for image in json.loads(text)]
    assert rows == [(str(one.image), names[one.class_ids[0]]) for one in found]


def test_a_table_holds_a_line_a_class_and_nothing_that_a_terminal_obeys() -> None:
    names = ("two\nlines", "\x1b[31mred")
    found = [Prediction(Path("a\x1b]0;b.png"), (1, 0), (0.75, 0.25))]
    lines = "".join(as_table(found, names)).splitlines()
    assert len(lines) == 3 and all(line.isprintable() for line in lines)


def test_nothing_to_say_is_still_valid() -> None:
    assert json.loads("".join(as_json([], NAMES))) == []
    assert "".join(as_csv([], NAMES)).splitlines() == ["image,rank,class_id,class,probability"]


def test_as_a_program_it_goes_through_a_pipe_with_names_of_any_bytes(released: Released, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.png"
    shutil.copyfile(released.images[0], odd)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": ""}
    words = ["-m", "tools.predict", os.fsdecode(odd), "--release", str(released.folder), "--format", "csv"]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith(odd + b",1,")
