"""tools.predict: the classes and probabilities of evaluate, for folders of any size, in three formats."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steps.errors import BadInput
from steps.images.preprocessing import decode_rgb
from steps.reports.release import write_sums
from tests.backends.tiny import NAMES, ROOT
from tests.released import Released, picture
from tests.tools.tables import rows_of
from tools import predict as tool
from tools import predict_images
from tools.predict import open_release
from tools.predict_images import Unusable
from tools.predict_output import Prediction

FORMS = {"model": "export", "onnxruntime-fp32": "onnxruntime-fp32", "openvino-fp32": "openvino-fp32"}
Ended = tuple[int, str, str]
Run = Callable[..., Ended]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the tool's command line in this process; return exit code, stdout and stderr."""

    def command(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            tool.main()
        message = capsys.readouterr()
        return int(ended.value.code or 0), message.out, message.err

    return command


@pytest.mark.parametrize("engine", FORMS)
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_any_form_gives_the_classes_and_probabilities_of_evaluate(
    released: Released, run: Run, tmp_path: Path, engine: str, batch: int
) -> None:
    flags = ["--release", released.folder, "--engine", engine, "--batch", batch, "--threads", 1, "--top", 4]
    code, _, message = run(*released.images, *flags, "--format", "json", "--out", tmp_path / "all.json")
    assert (code, message) == (0, "")
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
    from_csv = [
        (row["image"], int(row["class_id"]), row["class"], float(row["probability"])) for row in rows_of(rows)
    ]
    from_json = [
        (image["image"], row["class_id"], row["class"], row["probability"])
        for image in json.loads(listed)
        for row in image["classes"]
    ]
    words = [line.split() for line in table.splitlines()]
    assert words[0] == ["probability", "id", "class", "image"]
    assert (
        from_csv
        == from_json
        == [(image, int(number), name, float(share)) for share, number, name, image in words[1:]]
    )
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
    os.mkfifo(tmp_path / "pipe.png")
    code, shown, message = run(
        folder,
        tmp_path / "absent.png",
        tmp_path / "pipe.png",
        folder / "empty",
        "--release",
        released.folder,
        "--format",
        "csv",
    )
    assert code == 2
    assert [row["image"] for row in rows_of(shown)] == [f"{folder}/a.png", f"{folder}/c.jpg"]
    lines = message.splitlines()
    assert [line.split(" ")[1] for line in lines[:-1]] == [
        f"{folder}/b.jpg", f"{folder}/d.png", f"{tmp_path}/absent.png", f"{tmp_path}/pipe.png",
        f"{folder}/empty",
    ]  # fmt: skip
    assert lines[-1] == "predict: 5 images could not be classified."


def test_a_decoder_that_raises_anything_spoils_one_image_only(
    released: Released, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (odd, content), sound = (released.images[1], released.images[1].read_bytes()), released.images[0]

    def fragile(read: bytes) -> object:
        if read == content:
            raise KeyError("no such marker")
        return decode_rgb(read)

    monkeypatch.setattr(predict_images, "decode_rgb", fragile)
    code, shown, message = run(odd, sound, "--release", released.folder, "--format", "csv")
    assert code == 2 and str(sound) in shown and str(odd) not in shown and str(odd) in message


def test_a_bomb_is_not_decoded(released: Released, run: Run, tmp_path: Path) -> None:
    (tmp_path / "bomb.ppm").write_bytes(b"P6\n30000 30000\n255\n" + bytes(100))
    code, _, message = run(tmp_path / "bomb.ppm", "--release", released.folder)
    assert code == 2 and "bomb.ppm cannot be read as an image" in message and "exceeds limit" in message


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
    "a release that cannot be read": (
        ["--release", "n" * 300],
        f"{'n' * 300}/SHA256SUMS cannot be read: File name",
    ),
    "no count": (["--top", "0"], "'0' is no whole number of at least 1"),
    "more threads than CPUs": (["--threads", "5000"], "5000 threads are more than the"),
    "a folder to write": (["--out", "."], "--out . is a folder"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_flags_end_in_one_sentence_and_exit_2(released: Released, run: Run, kind: str) -> None:
    flags, sentence = WRONG[kind]
    code, shown, message = run(released.images[0], "--release", released.folder, *flags)
    assert (code, shown) == (2, "")
    assert sentence in message and (message.startswith("usage: ") or len(message.splitlines()) == 1)


@pytest.mark.parametrize("name", ["model/model.onnx", "labels.txt"])
def test_a_release_that_was_changed_is_not_used(released: Released, run: Run, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(released.folder, tmp_path / "release")
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    code, shown, message = run(released.images[0], "--release", copy)
    assert (code, shown) == (2, "") and f"{copy}/{name} is not the file that SHA256SUMS names" in message
    write_sums(copy)
    code, shown, message = run(released.images[0], "--release", copy)
    assert (code, shown) == (2, "") and f"{copy}/{name} is not what release.json says" in message


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


@pytest.mark.parametrize("named", ["image.png", "."], ids=["the image", "its folder"])
def test_out_takes_the_place_of_no_image(released: Released, run: Run, tmp_path: Path, named: str) -> None:
    image = shutil.copyfile(released.images[0], tmp_path / "image.png")
    before = image.read_bytes()
    code, shown, message = run(tmp_path / named, "--release", released.folder, "--out", image)
    assert (code, shown) == (2, "") and f"--out {image} is one of the images" in message
    assert image.read_bytes() == before


def test_a_link_to_an_image_takes_no_answers_either(released: Released, run: Run, tmp_path: Path) -> None:
    image = shutil.copyfile(released.images[0], tmp_path / "image.png")
    (tmp_path / "all.csv").symlink_to(image)
    code, _, message = run(image, "--release", released.folder, "--out", tmp_path / "all.csv")
    assert code == 2 and "is one of the images" in message and not image.is_symlink()
    assert image.read_bytes() == released.images[0].read_bytes()


def test_an_image_that_is_not_there_may_be_called_as_out_is(released: Released, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "all.csv"
    out.write_text("before")
    code, _, message = run(tmp_path / "absent/all.csv", "--release", released.folder, "--out", out)
    assert code == 2 and message.startswith(f"predict: {tmp_path}/absent/all.csv is not there.")


def test_out_may_take_the_place_of_a_link_that_leads_nowhere(released: Released, run: Run, tmp_path: Path) -> None:
    out = tmp_path / "all.csv"
    out.symlink_to(out)
    assert run(released.images[0], "--release", released.folder, "--out", out)[0] == 0
    assert out.is_file() and not out.is_symlink()


def test_as_a_program_it_goes_through_a_pipe_with_names_of_any_bytes(released: Released, tmp_path: Path) -> None:
    odd = os.fsencode(tmp_path) + b"/\xff\xfe\xe7\x8c\xab.png"
    shutil.copyfile(released.images[0], odd)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "cp1252"}
    words = ["-m", "tools.predict", os.fsdecode(odd), "--release", str(released.folder), "--format", "csv"]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith(odd + b",1,")
