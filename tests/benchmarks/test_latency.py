"""benchmarks.latency takes each ratio within one round, against the fastest engine of that round."""

import shutil
from pathlib import Path

import pytest
import torch

from benchmarks import latency
from benchmarks.latency import _figures, _ratio, peak_loop
from steps.backends.interleaved_timing import Call, take_turns, torch_threads
from steps.reports.artifact import CARD


def calls(*milliseconds: float) -> list[Call]:
    return [Call(wall=value * 2, cpu=value) for value in milliseconds]


def test_a_ratio_is_the_median_over_rounds_that_a_busy_moment_slows_on_both_sides() -> None:
    assert _ratio(calls(3, 30, 3), calls(2, 20, 2)) == 1.5
    assert _ratio(calls(3, 3, 90), calls(2, 2, 2)) == 1.5


def test_each_bound_is_held_against_its_own_pair_of_forms() -> None:
    turns = {
        "peak": calls(10),
        "eager": calls(40),
        "unfused, onnxruntime-fp32": calls(30),
        "onnxruntime-fp32": calls(25),
        "openvino-fp32": calls(20),
    }
    found = _figures("a", ("repvgg", 1.1, 1.35, 0.85), turns, operations=900.0, peak_operations=500.0)
    assert [(figure.value, figure.bound) for figure in found] == [(1.2, 1.1), (2.0, 1.35), (0.9, 0.85)]
    assert "openvino-fp32" in found[1].name and "openvino-fp32" in found[2].name
    assert _figures("a", (None, None, None, 0.85), turns, 900.0, 500.0) == found[2:]


def test_without_the_compiler_that_is_run_the_peak_is_a_matrix_product_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == "gcc" else f"/usr/bin/{name}")
    _, operations = peak_loop(tmp_path)
    assert operations == 2 * 768**3


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no C compiler")
def test_the_peak_is_counted_in_whole_vectors_of_multiply_adds(tmp_path: Path) -> None:
    run, operations = peak_loop(tmp_path)
    assert operations > 1e6 and run() == operations
    assert operations % (2 * 4 * 12) == 0 or operations % (2 * 16 * 20) == 0


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no C compiler")
def test_no_matrix_product_is_faster_than_the_peak(tmp_path: Path) -> None:
    """One product was faster than the peak: a chain too many for the registers was spilled to memory."""
    loop, operations = peak_loop(tmp_path)
    a_MM = torch.ones(768, 768)
    with torch_threads(1):
        turns = take_turns({"peak": loop, "product": lambda: a_MM @ a_MM}, 9)
    assert operations / (2 * 768**3) * _ratio(turns["product"], turns["peak"]) > 0.95


def test_two_threads_are_asked_of_every_engine_that_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for engine in ("openvino-fp32", "aotinductor-fp32"):
        (tmp_path / engine).mkdir()
        (tmp_path / engine / CARD).touch()
    (tmp_path / "onnxruntime-fp32").mkdir()  # its build was refused
    fastest = {
        ("openvino-fp32", 1): 6,
        ("openvino-fp32", 2): 4,
        ("aotinductor-fp32", 1): 5,
        ("aotinductor-fp32", 2): 2,
    }
    monkeypatch.setattr(latency, "_engine", lambda engine, _, threads: (engine, threads))
    monkeypatch.setattr(
        latency, "take_turns", lambda runs, _: {key: calls(fastest[run]) for key, run in runs.items()}
    )
    found = latency._two_threads("a", tmp_path, rounds=1)
    assert "aotinductor-fp32" in found.name and found.value == 2.5
