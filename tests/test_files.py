"""files.py: outputs are complete or absent, the report is written last, and only one writer runs at a time."""

import errno
import os
import pickle
from pathlib import Path

import pytest

from steps.errors import BadInput
from steps.files import NoSpace, merge_into_folder, only_writer, replace_folder, reserve, sha256, write_whole
from tests.full_disk import SIZE, small_disk


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


@pytest.mark.parametrize("supported", [True, False])
def test_reserved_bytes_follow_what_was_written_and_are_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    if not supported:
        monkeypatch.setattr("os.posix_fallocate", unsupported)
    with (tmp_path / "a").open("wb") as file:
        file.write(b"header")
        reserve(file, tmp_path / "a", 3 * 2**20)
        file.write(b"first")
    content = (tmp_path / "a").read_bytes()
    assert len(content) == 6 + 3 * 2**20 and content.startswith(b"headerfirst\0")


@pytest.mark.parametrize("supported", [True, False])
def test_what_cannot_be_reserved_is_named_with_the_bytes_that_are_needed_and_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    if not supported:
        monkeypatch.setattr("os.posix_fallocate", unsupported)
    with small_disk(tmp_path / "disk") as disk:
        file = (disk / "a").open("wb", buffering=0)
        with file, pytest.raises(NoSpace) as found:
            reserve(file, disk / "a", SIZE + 1)
        (disk / "a").unlink()
        sentence = f"{disk}/a needs 4,194,305 bytes, but only 4,194,304 bytes are free there"
        assert str(found.value) == f"{sentence}. Free some space there, then run the step again."
        assert str(pickle.loads(pickle.dumps(found.value))) == str(found.value)


def test_a_file_without_space_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with pytest.raises(OSError, match="No space left") as found:
            write_whole(disk / "a.json", bytes(SIZE + 1))
        assert found.value.filename == f"{disk}/a.json" and list(disk.iterdir()) == []


def test_a_move_without_space_is_no_advice_to_remove_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write(tmp_path / "written", a="")

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OSError, match="No space left"):
        merge_into_folder(written, tmp_path / "out", last="a")


def unsupported(*_: object) -> None:
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
