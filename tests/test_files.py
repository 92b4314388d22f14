"""files.py: written whole or not at all, the report last, one writer at a time."""

from pathlib import Path

import pytest

from steps.errors import BadInput
from steps.files import merge_into_folder, only_writer, replace_folder, sha256, write_whole


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def test_the_report_comes_last_into_a_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write(tmp_path / "written", train__json="{}", train__metrics__json="{}", train__parquet="")
    moved: list[str] = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: moved.append(path.name) or replace(path, to))  # type: ignore[func-returns-value]
    merge_into_folder(written, tmp_path / "out", last="train.json")
    assert moved == ["train.metrics.json", "train.parquet", "train.json"]
    assert not written.exists() and {path.name for path in (tmp_path / "out").iterdir()} == set(moved)


def test_files_of_others_stay_in_a_shared_folder_and_the_own_are_replaced(tmp_path: Path) -> None:
    out = write(tmp_path / "out", fuse__json="old", export__json="of another")
    merge_into_folder(write(tmp_path / "written", fuse__json="new"), out, last="fuse.json")
    assert (out / "fuse.json").read_text() == "new" and (out / "export.json").read_text() == "of another"


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    out = write(tmp_path / "out", old="")
    replace_folder(write(tmp_path / "written", new=""), out)
    assert [path.name for path in out.iterdir()] == ["new"] and [path.name for path in tmp_path.iterdir()] == [
        "out"
    ]


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    write_whole(file, b"first")
    before = sha256(file)

    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_whole(file, b"second")
    assert sha256(file) == before and list(tmp_path.iterdir()) == [file]


def test_a_second_writer_of_one_output_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("steps.files.LOCK_PATIENCE_SECONDS", 0.0)
    with (
        only_writer(Path("data/.out.tmp")),
        pytest.raises(BadInput, match="another run is writing data"),
        only_writer(Path("data/.out.tmp")),
    ):
        raise AssertionError("two writers")
