"""A small line, made once by the real steps, and driven again from any stage on after something was planted.

Its folders are those of `data/`: ingest, split, train, fuse, export, build/<engine>, evaluate, gate.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.planted.network import ARCH
from steps.build import build
from steps.evaluate import evaluate
from steps.export import export
from steps.fuse import fuse
from steps.gate import gate
from steps.ingest import ingest
from steps.params.build import BuildParams
from steps.params.export import ExportParams
from steps.params.fuse import FuseParams
from steps.params.gate import GateParams
from steps.params.ingest import IngestParams
from steps.params.release import ReleaseParams
from steps.params.split import SplitParams
from steps.params.train import TrainParams
from steps.params.validate import ValidateParams
from steps.release import release
from steps.reports.champion import Champion
from steps.split import split
from steps.train import train
from steps.validate import validate

ROOT = Path(__file__).parent.parent.parent
DIGITS = ROOT / "data/samples/digits.yaml"
ENGINES = ("onnxruntime-fp32", "onnxruntime-fp16", "onnxruntime-int8", "openvino-fp32")
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
LEARNT = TrainParams(
    arch=ARCH,
    preprocess={"side": 16, "resize": 20, "interpolation": "bilinear", **HALF},
    epochs=6,
    batch_size=32,
    lr=0.05,
)
COARSE = ("-int8", "-bf16")  # engines that the line is not held up by
# what such an engine costs here
BY_ITS_STEPS = {"gate.max_top1_drop": 0.02, "gate.max_score_difference": 0.5, "gate.min_agreement": 0.97}


@dataclass(frozen=True)
class Line:
    """A line of forms under `root`: what it learns from, and the params that are not what stands below.

    `keys` are those of params.yaml, such as `gate.required`.
    """

    root: Path
    engines: tuple[str, ...] = ENGINES
    source: Path = DIGITS
    learnt: TrainParams = LEARNT
    keys: dict[str, Any] = field(default_factory=dict)

    def given(self, section: str) -> dict[str, Any]:
        """Return the keys of one section that this line is given."""
        return {
            key.partition(".")[2]: value for key, value in self.keys.items() if key.partition(".")[0] == section
        }

    def folder(self, stage: str) -> Path:
        """Return what the stage writes; `build@openvino-fp32` has a folder of its own."""
        step, _, item = stage.partition("@")
        return self.root / step / item if step == "build" else self.root / step

    def model(self, form: str) -> Path:
        """Return the form's artifact."""
        if form == "champion":
            return self.root / "champion"
        return self.folder(f"build@{form}") if form in self.engines else self.root / form / "model"

    def drive(self, *stages: str) -> None:
        """Run the stages, each into a folder of its own as its command line would; raise what they raise."""
        with _inside(self.root):
            for stage in stages:
                step, _, item = stage.partition("@")
                if step != "evaluate":
                    shutil.rmtree(self.folder(stage), ignore_errors=True)
                self.folder(stage).mkdir(parents=True, exist_ok=True)
                STAGES[step](self, item)

    def copy(self, root: Path) -> "Line":
        """Return the same line in another folder, where no step remembers what it once read."""
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns(".foldline"))
        return replace(self, root=root)

    @property
    def forms(self) -> tuple[str, ...]:
        """Return every form but the champion, in the order of the line."""
        return ("train", "fuse", "export", *self.engines)


def downstream(*forms: str) -> tuple[str, ...]:
    """Return the stages that evaluate these forms and judge the line."""
    return (*(f"evaluate@{form}" for form in forms), "gate")


def make_digits(root: Path) -> Line:
    """Train on scikit-learn's digits, take the network through every stage, and make the release the champion."""
    line = Line(root)
    make(line)
    line.drive("release")
    shutil.copytree(line.root / "release", line.root / "champion/release")
    Champion(accepted=True).write(line.root / "champion/champion.json")
    line.drive(*downstream("champion"), "release")
    return line


def make(line: Line) -> None:
    """Train, and take the network through every stage up to the gate, which must let it pass."""
    Champion(accepted=False).write(line.root / "champion/champion.json")
    line.drive("ingest", "validate", "split", "train", "fuse", "export")
    line.drive(*(f"build@{engine}" for engine in line.engines), *downstream(*line.forms, "champion"))


def _evaluate(line: Line, form: str) -> None:
    evaluate(form, line.model(form), line.root / "ingest", line.root / "split", line.root / "evaluate")


def _build(line: Line, engine: str) -> None:
    how = BuildParams(
        **{"batch": {"min": 1, "opt": 8, "max": 64}, "calibration_images": 128, **line.given("build")}
    )
    out = line.folder(f"build@{engine}")
    build(how, 0, engine, line.model("export"), line.root / "ingest", line.root / "split", out)


def _gate(line: Line, _: str) -> None:
    gate(_gate_params(line), line.engines, line.root / "evaluate", line.root / "gate")


def _gate_params(line: Line) -> GateParams:
    strict = tuple(form for form in line.forms[1:] if not form.endswith(COARSE))
    return GateParams(**{"required": strict, **line.given("gate")})


def _release(line: Line, _: str) -> None:
    root = line.root
    ledger = root / "split/ledger.parquet"
    given = ReleaseParams(), _gate_params(line), line.engines, root / "evaluate"
    release(*given, root / "gate", line.model("export"), root / "build", ledger, root / "release")


# a step's name -> how it is run on a line's folders
STAGES: dict[str, Callable[[Line, str], None]] = {
    "ingest": lambda line, _: ingest(IngestParams(source=str(line.source)), line.root / "ingest"),
    "validate": lambda line, _: validate(ValidateParams(), "auto", line.root / "ingest", line.root / "validate"),
    "split": lambda line, _: split(
        SplitParams(val=0.1, test=0.35), 0,
        line.root / "ingest", line.root / "validate", line.root / "champion", line.root / "split",
    ),
    "train": lambda line, _: train(
        line.learnt, 0, "auto", line.root / "ingest", line.root / "split", line.root / "train"
    ),
    "fuse": lambda line, _: fuse(
        FuseParams(**line.given("fuse")), 0, line.model("train"), line.root / "fuse"
    ),
    "export": lambda line, _: export(ExportParams(), 0, line.model("fuse"), line.root / "export"),
    "build": _build,
    "evaluate": _evaluate,
    "gate": _gate,
    "release": _release,
}  # fmt: skip


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in the folder, where steps keep what is no output (.foldline), and come back."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
