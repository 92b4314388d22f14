"""benchmarks/false_alarms.py: figures come from the gate's rule; honest runs pass through the gate's files."""

from pathlib import Path

import numpy as np

from benchmarks.false_alarms import LIMIT, cell_of, dishonest, figures_of, judged, table_of


def test_a_cell_holds_its_bounds_and_its_table_has_a_row() -> None:
    cell = cell_of(1000, 0.01, tables=2000)
    assert 0.02 < cell.passed[LIMIT] < 0.08 and cell.failed[0] < 0.01 < cell.failed[0.05]
    assert table_of([cell])[2].startswith("| 1,000 | 1 % | ")
    assert len(list(figures_of(cell))) == 3


def test_runs_are_judged_through_files_and_an_engine_beyond_a_bound_is_told(tmp_path: Path) -> None:
    random, labels_N = np.random.default_rng(0), np.arange(800) % 10
    logits_NK = (np.eye(10)[labels_N] * 8 + random.normal(0, 1, (800, 10))).astype(np.float32)
    forms = dict.fromkeys(("train", "fuse", "export", "onnxruntime-fp16"), logits_NK)
    assert judged(forms, labels_N, tmp_path / "honest").judgement == "pass"
    flat = judged({**forms, "onnxruntime-fp16": logits_NK * np.float32(0.3)}, labels_N, tmp_path / "flat")
    assert flat.judgement == "fail"
    assert dishonest(flat) == {"onnxruntime-fp16"}
