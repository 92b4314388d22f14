"""Latencies that can be compared: the networks run in turns, so other load on the machine slows all of them.

A call goes from one uint8 image to the logits, normalisation included: eager in PyTorch, or the exported graph in
ONNX Runtime.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import nn

from steps.backends.runner import open_runner
from steps.errors import BadInput
from steps.graphs.exporting import checked_bytes, described, simplified, to_onnx
from steps.models.normalised import normalised
from steps.progress import track
from steps.reports.artifact import write_card
from steps.reports.card import Card, Preprocessing

Run = Callable[[], object]
Key = TypeVar("Key")
WARM_CALLS = 3  # the first calls allocate and choose kernels
OPSET = 20  # as in the export step


class Call(NamedTuple):
    """Milliseconds of one call: wall-clock time, and the CPU time of all threads of this process."""

    wall: float
    cpu: float


def take_turns(runs: Mapping[Key, Run], rounds: int) -> dict[Key, list[Call]]:
    """Return `rounds` warm calls of each run; each round calls each run once."""
    for run in runs.values():
        for _ in range(WARM_CALLS):
            run()
    calls: dict[Key, list[Call]] = {key: [] for key in runs}
    for _ in track(range(rounds), "cost", rounds, "round"):
        for key, run in runs.items():
            calls[key].append(_timed(run))
    return calls


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let PyTorch compute on `threads` threads inside the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def eager(network: nn.Module, size: int) -> Run:
    """Return a call of the module on one image."""
    module = normalised(network, _preprocessing(size)).eval()
    image_NHWC_u8 = torch.from_numpy(_image(size))

    @torch.inference_mode()
    def run() -> object:
        return module(image_NHWC_u8)

    return run


def exported(network: nn.Module, arch: str, class_num: int, size: int, threads: int, folder: Path) -> Run:
    """Return a call of the network's ONNX graph, written into the folder as the export step writes it.

    Raises BadInput where the network cannot be exported.
    """
    card = Card(
        form="export",
        arch=arch,
        class_num=class_num,
        class_names=tuple(map(str, range(class_num))),
        preprocessing=_preprocessing(size),
        fused=True,
        backend="onnxruntime",
        files={},
        artifact="",
    )
    try:
        graph = simplified(to_onnx(network, card, OPSET))
    except Exception as fault:  # the exporter's errors share no base
        raise BadInput(f"{arch} cannot be exported to ONNX: {' '.join(str(fault).split())[:200]}") from fault
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(checked_bytes(described(graph, card)))
    write_card(folder, card)
    runner, _ = open_runner(folder, threads)
    image_NHWC_u8 = _image(size)
    return lambda: runner(image_NHWC_u8)


def _timed(run: Run) -> Call:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return Call((time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000)


def _preprocessing(size: int) -> Preprocessing:
    """Return a preprocessing with arbitrary numbers: the numbers do not change the latency."""
    half = (0.5, 0.5, 0.5)
    return Preprocessing(size=size, resize=size, interpolation="bilinear", mean=half, std=half)


def _image(size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
