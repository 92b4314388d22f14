"""A fast builder for tests: it writes bytes and counts its calls, in place of a builder that takes minutes."""

from pathlib import Path

import onnx

from steps.engines.contract import BatchRange, Built, Order
from steps.reports.card import Device
from tests.backends.tiny import NAMES, onnx_model, weights

BUILT = Built(Device(kind="cuda", compute_capabilities=("8.9",)), {"tensorrt-rtx": "1"}, ("a warning",), 7)


class Builder:
    """Write an engine of the given number of bytes, and count the calls."""

    def __init__(self, size: int = 100, here: str = "this machine") -> None:
        self.calls, self.size, self.here = 0, size, here

    def build(self, order: Order) -> Built:
        self.calls += 1
        (order.out / "model.engine").write_bytes(bytes([self.calls]) * self.size)
        return BUILT

    def surroundings(self, backend: str) -> dict[str, str]:
        return {backend: self.here}


def new(root: Path, name: str) -> Path:
    (root / name).mkdir()
    return root / name


def an_order(folder: Path) -> Order:
    onnx.save(onnx_model(weights()), folder / "model.onnx")
    return Order("tensorrt-rtx", folder / "model.onnx", new(folder, "out"), NAMES, BatchRange(1, 2, 4), ("8.9",))
