"""An engine is not built again for the same inputs, and a cached engine is never used if any input differs."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from steps.building import cache as build_cache
from steps.building.cache import NOTE, build_or_take, key_of
from steps.engines.contract import BatchRange, Built, CannotRunHere, Order, WrongFile
from tests.building.counting_builder import BUILT, Builder, an_order, new

HERE = Builder()


def opens(built: Built) -> None:
    assert built == BUILT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build_cache, "FOLDER", tmp_path / "builds")
    return tmp_path / "builds"


@pytest.fixture
def order(tmp_path: Path) -> Order:
    return an_order(tmp_path)


def test_the_second_build_is_taken_and_said_so(
    order: Order, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Builder()
    assert build_or_take(order, build, opens) == BUILT
    assert "build cache" not in capsys.readouterr().err
    again = dataclasses.replace(order, out=new(tmp_path, "again"))
    assert build_or_take(again, build, opens) == BUILT
    assert build.calls == 1
    assert (again.out / "model.engine").read_bytes() == (order.out / "model.engine").read_bytes()
    assert [file.name for file in again.out.iterdir()] == ["model.engine"]
    assert "taken from the build cache" in capsys.readouterr().err


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def a_file_of_it(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_bytes(b"a file where a folder should be")


SPOILS: dict[str, Callable[[Path], None]] = {
    "the engine cut short": lambda entry: cut_short(entry / "model.engine"),
    "the engine with a flipped bit": lambda entry: flip_a_bit(entry / "model.engine"),
    "the engine gone": lambda entry: (entry / "model.engine").unlink(),
    "the note cut short": lambda entry: cut_short(entry / NOTE),
    "the note gone": lambda entry: (entry / NOTE).unlink(),
    "the entry a file": a_file_of_it,
}


@pytest.mark.parametrize("spoiled", SPOILS)
def test_a_damaged_entry_is_dropped_and_built_again(
    order: Order, spoiled: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Builder()
    build_or_take(order, build, opens)
    (entry,) = folder.iterdir()
    SPOILS[spoiled](entry)
    again = dataclasses.replace(order, out=new(tmp_path, "again"))
    build_or_take(again, build, opens)
    assert build.calls == 2
    assert (again.out / "model.engine").read_bytes() == b"\2" * 100
    assert [file.name for file in again.out.iterdir()] == ["model.engine"]
    assert f"{entry} cannot be used and was removed (" in capsys.readouterr().err
    build_or_take(dataclasses.replace(order, out=new(tmp_path, "third")), build, opens)
    assert build.calls == 2, "what took the place of the damaged entry is taken"


@pytest.mark.parametrize(
    "fault",
    [WrongFile("torch cannot load it"), CannotRunHere("of another version"), RuntimeError("undefined symbol")],
)
def test_an_entry_that_no_longer_opens_is_dropped_and_built_again(
    order: Order, fault: Exception, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(built: Built) -> None:
        raise fault

    build = Builder()
    build_or_take(order, build, fails)  # the step itself judges a new engine
    again = dataclasses.replace(order, out=new(tmp_path, "again"))
    assert build_or_take(again, build, fails) == BUILT
    assert build.calls == 2
    assert f"was removed ({fault}); the engine is built again" in capsys.readouterr().err
    (entry,) = folder.iterdir()
    assert (entry / "model.engine").read_bytes() == (again.out / "model.engine").read_bytes() == b"\2" * 100


class Dies(BaseException):
    """Stands for a killed process: no code catches this exception, and no code cleans up."""


def test_an_entry_that_its_last_user_died_of_is_dropped_and_built_again(
    order: Order, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def dies(built: Built) -> None:
        raise Dies

    build = Builder()
    build_or_take(order, build, opens)
    with pytest.raises(Dies):
        build_or_take(dataclasses.replace(order, out=new(tmp_path, "dead")), build, dies)
    for name, calls in (("again", 2), ("third", 2)):
        assert build_or_take(dataclasses.replace(order, out=new(tmp_path, name)), build, opens) == BUILT
        assert build.calls == calls
    assert capsys.readouterr().err.count("the last run that opened this entry ended while it did so") == 1
    (entry,) = folder.iterdir()
    assert {file.name for file in entry.iterdir()} == {"model.engine", NOTE}


def test_a_build_that_fails_leaves_nothing(order: Order, folder: Path) -> None:
    class Crashes(Builder):
        def build(self, order: Order) -> Built:
            (order.out / "model.engine").write_bytes(b"half")
            raise RuntimeError("the builder crashed")

    with pytest.raises(RuntimeError):
        build_or_take(order, Crashes(), opens)
    assert not folder.exists()


def test_a_cache_that_cannot_be_written_costs_the_engine_nothing(
    order: Order, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_text("a file where the folder should be")
    assert build_or_take(order, Builder(), opens) == BUILT
    assert "was not stored in the build cache" in capsys.readouterr().err


def test_the_entries_not_used_for_longest_make_room(
    order: Order, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Builder(1000)
    orders = [
        dataclasses.replace(order, out=new(tmp_path, f"o{most}"), batch=BatchRange(1, 2, most))
        for most in range(4, 8)
    ]
    for place, each in enumerate(orders[:3]):
        build_or_take(each, build, opens)
        _set_age(folder / key_of(each, HERE), place)
    used = dataclasses.replace(orders[0], out=new(tmp_path, "used"))
    build_or_take(used, build, opens)  # now the most recently used engine
    monkeypatch.setattr(build_cache, "MOST_BYTES", 5000)  # the size of an engine with its note: three fit
    build_or_take(orders[3], build, opens)
    kept = {entry.name for entry in folder.iterdir()}
    assert kept == {key_of(orders[place], HERE) for place in (0, 2, 3)}


def _set_age(entry: Path, place: int) -> None:
    os.utime(entry, (1000 + place, 1000 + place))
