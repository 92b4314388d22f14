"""What evaluating costs beyond the engines themselves: every form of RepVGG-A0 at 64 pixels, on the same images.

    python -m benchmarks.evaluate_cost [--full] [--write]

A network with fresh weights goes through the real fuse, export and build (ONNX Runtime and OpenVINO in float32).
Each form is then evaluated as the stage does it, right after its bare engine ran on images that are in memory
already. The sum of the first is held to 1.2 times the sum of the second plus one decode of the images. Process CPU
time, in one run, on one core; the start of Python and its packages is not counted. The images are drawn: JPEG
files of 160 x 120 pixels, with the grain of a photograph. 4,000 images, with `--full` 10,000.
"""

import contextlib
import hashlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import nn

from benchmarks.bounds import Figure, command_line, report
from steps.backends.runner import open_runner
from steps.build import build
from steps.evaluate import BATCH, evaluate
from steps.export import export
from steps.fuse import fuse
from steps.images.dataset import load_all
from steps.images.manifest import SCHEMA, read_manifest, write_manifest
from steps.models.architectures import create
from steps.models.files import ProbeImages, save_model
from steps.models.normalised import normalised
from steps.params.build import BuildParams
from steps.params.export import ExportParams
from steps.params.fuse import FuseParams
from steps.reparam.expand import expand
from steps.reports.card import Card, Expansion, Preprocessing
from steps.reports.classes import Classes
from steps.reports.ingest import IngestReport

ARCH, SIZE, CLASSES, MOST = "repvgg_a0_plain", 64, 10, 1.2
NAMES = tuple(f"class {number}" for number in range(CLASSES))
ENGINES = ("onnxruntime-fp32", "openvino-fp32")
HOW = Preprocessing(size=SIZE, resize=SIZE, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)


def main() -> None:
    """Measure each form beside its bare engine and report the ratio."""
    parser = command_line("evaluate_cost", __doc__)
    parser.add_argument("--full", action="store_true", help="10,000 images")
    arguments = parser.parse_args()
    images = 10_000 if arguments.full else 4000
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="foldline-evaluate-") as folder, contextlib.chdir(folder):
        write_images(Path(), images)
        report(list(figures(make_forms(Path()), images)), arguments)


def figures(forms: dict[str, Path], images: int) -> Iterator[Figure]:
    """Yield the ratio, after a line for each form; its bare engine runs right before it."""
    manifest, out = read_manifest(Path("split/manifest.parquet")), Path("evaluate")
    out.mkdir()
    images_NHWC_u8: list[np.ndarray] = []
    decode = cpu_seconds(lambda: images_NHWC_u8.append(load_all(manifest, Path("files"), HOW)))
    print(f"decode of {images} images, once: {decode:.1f} s")
    bare, staged = decode, 0.0
    for form, model in forms.items():
        engine = cpu_seconds(lambda model=model: run_bare(model, images_NHWC_u8[0]))  # type: ignore[misc]
        stage = cpu_seconds(
            lambda form=form, model=model: evaluate(form, model, Path("ingest"), Path("split"), out)  # type: ignore[misc]
        )
        print(f"{form}: engine {engine:.1f} s, evaluated {stage:.1f} s", flush=True)
        bare, staged = bare + engine, staged + stage
    yield Figure(
        f"evaluating {images} images in {len(forms)} forms, to engines and one decode",
        staged / bare,
        "at most",
        MOST,
    )


def run_bare(model: Path, images_NHWC_u8: np.ndarray) -> None:
    """Run the engine on all images and forget what it says."""
    run, _ = open_runner(model)
    for begin in range(0, len(images_NHWC_u8), BATCH):
        run(images_NHWC_u8[begin : begin + BATCH])


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the process's CPU time of the work."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def make_forms(folder: Path) -> dict[str, Path]:
    """Return the model folders of the forms, made by the real steps."""
    torch.manual_seed(0)
    network = create(ARCH, CLASSES, SIZE)
    expand(network, "repvgg")
    resolve_preprocessing(network)
    card = Card(
        form="train", arch=ARCH, class_num=CLASSES, class_names=NAMES, preprocessing=HOW,
        expansion=Expansion(block="repvgg", where="all", mode="branch"), files={}, artifact="",
    )  # fmt: skip
    probes = np.stack([picture(number, SIZE, SIZE) for number in range(4)])
    save_model(folder / "train/model", network.eval(), card, ProbeImages(probes, NAMES[:4], (0, 1, 2, 3)))
    for name in ("fuse", "export", *ENGINES):
        (folder / name).mkdir()
    fuse(FuseParams(), 0, folder / "train/model", folder / "fuse")
    export(ExportParams(), 0, folder / "fuse/model", folder / "export")
    for engine in ENGINES:
        build(BuildParams(), 0, engine, folder / "export/model", Path("ingest"), Path("split"), folder / engine)
    return {
        **{form: folder / form / "model" for form in ("train", "fuse", "export")},
        **{engine: folder / engine for engine in ENGINES},
    }


def resolve_preprocessing(network: nn.Module) -> None:
    """Give the batch norms statistics of images: with fresh ones the outputs of so deep a network are constant."""
    images_NHWC_u8 = torch.from_numpy(np.stack([picture(number, SIZE, SIZE) for number in range(32)]))
    with torch.no_grad():
        for _ in range(20):
            normalised(network, HOW).train()(images_NHWC_u8)


def write_images(folder: Path, count: int) -> None:
    """Write the test images as JPEG files, and what ingest and split would say of them."""
    (folder / "files").mkdir()
    rows = []
    for number in range(count):
        content = io.BytesIO()
        Image.fromarray(picture(number, 120, 160)).save(content, "JPEG", quality=90)
        name = f"{number:05}.jpg"
        (folder / "files" / name).write_bytes(content.getvalue())
        row = dict.fromkeys(SCHEMA) | {"name": name, "file": name, "offset": 0, "faults": [], "split": "test"}
        row |= {"length": len(content.getvalue()), "checksum": hashlib.sha256(content.getvalue()).hexdigest()}
        rows.append(row | {"label": number % CLASSES})
    (folder / "split").mkdir()
    write_manifest(pl.DataFrame(rows, schema=SCHEMA), folder / "split/manifest.parquet")
    IngestReport(root=os.fspath((folder / "files").resolve())).write(folder / "ingest/report.json")
    Classes(names=dict(enumerate(NAMES))).write(folder / "ingest/classes.json")


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """Return an image_HWC_u8 with large shapes and fine grain."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height))
    grain = random.normal(0, 12, (height, width, 1))
    return (np.asarray(coarse) + grain).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
