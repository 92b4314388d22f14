"""What was built is not built again for the same inputs, and never taken where anything of them differs."""

import dataclasses
import os
from pathlib import Path

import onnx
import pytest

from steps.backends import build_cache
from steps.backends.build_cache import NOTE, build_or_take, key_of
from steps.backends.contract import BatchRange, Built, Order
from steps.reports.card import Device
from tests.backends.tiny import NAMES, onnx_model, weights

BUILT = Built(Device(kind="cuda", compute_capabilities=("8.9",)), {"tensorrt-rtx": "1"}, ("a warning",), 7)


class Builder:
    """Writes an engine of so many bytes and counts how often it was asked to."""

    def __init__(self, size: int = 100) -> None:
        self.calls, self.size = 0, size

    def __call__(self, order: Order) -> Built:
        self.calls += 1
        (order.out / "model.engine").write_bytes(bytes([self.calls]) * self.size)
        return BUILT


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(build_cache, "FOLDER", tmp_path / "builds")
    return tmp_path / "builds"


@pytest.fixture
def order(tmp_path: Path) -> Order:
    onnx.save(onnx_model(weights()), tmp_path / "model.onnx")
    return Order(
        "tensorrt-rtx", tmp_path / "model.onnx", new(tmp_path, "out"), NAMES, BatchRange(1, 2, 4), ("8.9",)
    )


def new(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def test_the_second_build_is_taken_and_said_so(
    order: Order, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Builder()
    assert build_or_take(order, build) == BUILT
    assert "build cache" not in capsys.readouterr().err
    again = dataclasses.replace(order, out=new(tmp_path, "again"))
    assert build_or_take(again, build) == BUILT
    assert build.calls == 1
    assert (again.out / "model.engine").read_bytes() == (order.out / "model.engine").read_bytes()
    assert [file.name for file in again.out.iterdir()] == ["model.engine"]
    assert "taken from the build cache" in capsys.readouterr().err


def test_whatever_decides_what_is_built_is_in_the_key(order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    other = [
        dataclasses.replace(order, backend="tensorrt"),
        dataclasses.replace(order, class_names=NAMES[::-1]),
        dataclasses.replace(order, batch=BatchRange(1, 2, 8)),
        dataclasses.replace(order, compute_capabilities=("8.9", "12.0")),
    ]
    keys = [key_of(order), *map(key_of, other)]
    assert key_of(dataclasses.replace(order, out=order.out / "elsewhere")) == keys[0]
    order.graph.write_bytes(order.graph.read_bytes() + b"\0")
    keys.append(key_of(order))
    monkeypatch.setattr(build_cache, "_packages", lambda: {"tensorrt-rtx": "0.1"})
    keys.append(key_of(order))
    monkeypatch.setattr(build_cache, "_code", lambda: "other code")
    keys.append(key_of(order))
    monkeypatch.setattr(build_cache, "_device", str)
    keys.append(key_of(order))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("victim", ["model.engine", NOTE])
def test_a_damaged_entry_is_dropped_and_built_again(
    order: Order, victim: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = Builder()
    build_or_take(order, build)
    (entry,) = folder.iterdir()
    (entry / victim).write_bytes((entry / victim).read_bytes()[:-9])
    again = dataclasses.replace(order, out=new(tmp_path, "again"))
    build_or_take(again, build)
    assert build.calls == 2
    assert (again.out / "model.engine").read_bytes() == b"\2" * 100
    assert "is damaged and was removed" in capsys.readouterr().err


def test_a_build_that_fails_leaves_nothing(order: Order, folder: Path) -> None:
    def fail(order: Order) -> Built:
        (order.out / "model.engine").write_bytes(b"half")
        raise RuntimeError("the builder crashed")

    with pytest.raises(RuntimeError):
        build_or_take(order, fail)
    assert not folder.exists()


def test_a_cache_that_cannot_be_written_costs_the_engine_nothing(
    order: Order, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write_text("a file where the folder should be")
    assert build_or_take(order, Builder()) == BUILT
    assert "was not kept in the build cache" in capsys.readouterr().err


def test_the_entries_not_used_for_longest_make_room(
    order: Order, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = Builder(1000)
    orders = [
        dataclasses.replace(order, out=new(tmp_path, f"o{most}"), batch=BatchRange(1, 2, most))
        for most in range(4, 8)
    ]
    for place, each in enumerate(orders[:3]):
        build_or_take(each, build)
        _set_age(folder / key_of(each), place)
    build_or_take(dataclasses.replace(orders[0], out=new(tmp_path, "used")), build)  # used: the newest now
    monkeypatch.setattr(build_cache, "MOST_BYTES", 5000)  # an engine and its note: three fit
    build_or_take(orders[3], build)
    kept = {entry.name for entry in folder.iterdir()}
    assert kept == {key_of(orders[place]) for place in (0, 2, 3)}


def _set_age(entry: Path, place: int) -> None:
    os.utime(entry, (1000 + place, 1000 + place))
