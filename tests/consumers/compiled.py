"""How the tests call a release's C++ example and read its output."""

import shutil
import subprocess
from pathlib import Path

import onnx
import pytest

from steps.reports.release import write_sums
from tests.backends.tiny import NAMES

TOOLS = ("cmake", "g++")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
NEEDS_A_COMPILER = pytest.mark.skipif(
    bool(MISSING), reason=f"needs Debian's {' and '.join(MISSING)}, which is not here"
)


def run(program: Path, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


def prepare_otherwise(release: Path, size: int, resize: int, interpolation: str) -> None:
    """Give the release a different preprocessing, and a model that takes images of that size."""
    (release / "preprocessing.txt").write_text(f"size {size}\nresize {resize}\ninterpolation {interpolation}\n")
    model = onnx.load(release / "model/model.onnx")
    for position in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[position].dim_value = size
    onnx.save(model, release / "model/model.onnx")
    write_sums(release)


def shares_of(done: "subprocess.CompletedProcess[str]") -> list[list[float]]:
    """Return each image's probabilities in the order of class ids, from an answer with all classes."""
    rows = sorted((line.split("\t") for line in done.stdout.splitlines()), key=lambda row: (row[0], int(row[1])))
    shares = [float(row[-1]) for row in rows]
    return [shares[first : first + len(NAMES)] for first in range(0, len(rows), len(NAMES))]
