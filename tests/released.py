"""A small release with real engines, the images of its evaluation, and the answers of `evaluate` for them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from PIL import Image

import steps.evaluate
import steps.release
from steps.building.engine import Target, build_engine
from steps.engines.contract import BatchRange
from steps.evaluate import evaluate
from steps.images.manifest import SCHEMA, write_manifest
from steps.images.preprocessing import preprocess
from steps.metrics.agreement import log_softmax
from steps.params.gate import GateParams
from steps.params.release import ReleaseParams
from steps.release import release
from steps.reports.artifact import write_card
from steps.reports.card import Card, Preprocessing
from steps.reports.classes import Classes
from steps.reports.ingest import IngestReport
from steps.reports.release import INDEX, SUMS, ReleaseCard, checksums, plain_files, write_sums
from steps.reports.verdict import FormVerdict, Verdict, card_checksum
from tests.backends.tiny import HOW, NAMES, Weights, onnx_model, reference, weights, write_exported

# Sizes above, below and at the size of the short side after the resize, portrait and landscape; one needs a crop.
SIZES = (
    (20, 20),
    (16, 16),
    (47, 31),
    (31, 47),
    (9, 14),
    (333, 250),
    (20, 61),
    (61, 20),
    (64, 1),
    (1, 3),
    (640, 480),
)
BATCH = BatchRange(1, 4, 8)


@dataclass(frozen=True)
class Released:
    """`shares_NK` are evaluate's probabilities for the images, by form; PNG and PPM hold the same pixels."""

    folder: Path
    images: list[Path]
    pixel_files: list[Path]
    card: Card
    shares_NK: dict[str, npt.NDArray[np.float64]]


def make_release(root: Path, interpolation: str = "bicubic", resize: int = 20) -> Released:
    """Release a tiny network that passed the gate, as ONNX and as two engines."""
    names = _write_images(root)
    folders = {"export": root / "export", "onnxruntime-fp32": root / "build/onnxruntime-fp32"}
    folders["openvino-fp32"] = root / "build/openvino-fp32"
    how = HOW.model_copy(update={"interpolation": interpolation, "resize": resize})
    card = write_exported(folders["export"], onnx_model(_undecided_weights(how)))
    cards = {"export": write_card(folders["export"], card.model_copy(update={"preprocessing": how}))}
    for engine in list(folders)[1:]:
        cards[engine] = _build(engine, folders["export"], folders[engine], cards["export"])
    shares_NK = {form: _evaluated(root, form, folder) for form, folder in folders.items()}
    _passed({form: card_checksum(card) for form, card in cards.items()}).write(root / "gate/verdict.json")
    (root / "gate/verdict.md").write_text("pass\n")
    pl.DataFrame({"key": [1], "split": ["test"]}).write_parquet(root / "ledger.parquet")
    (root / "release").mkdir()
    verdict = Verdict.read(root / "gate/verdict.json")
    places = [root / name for name in ("evaluate", "gate", "export", "build", "ledger.parquet", "release")]
    with pytest.MonkeyPatch.context() as patch:  # train and fuse were not evaluated in this line
        patch.setattr(steps.release, "judge", lambda *_: verdict)
        release(ReleaseParams(), GateParams(), tuple(cards)[1:], *places)
    images = [root / "files" / name for name in names]
    pixel_files = [root / "ppm" / name.replace(".png", ".ppm") for name in names]
    return Released(root / "release", images, pixel_files, cards["export"], shares_NK)


def _undecided_weights(how: Preprocessing) -> Weights:
    """Return weights with well separated logits that are zero on average, so that no class gets all images."""
    drawn = weights(seed=3)
    drawn["w3"] *= 8
    images_NHWC_u8 = np.stack([preprocess(picture(*size), how) for size in SIZES])
    drawn["b3"] -= reference(images_NHWC_u8, drawn).mean(axis=0)
    return drawn


def picture(width: int, height: int) -> Image.Image:
    """Return coarse blobs with noise, with the size as seed."""
    random = np.random.default_rng(1000 * width + height)
    coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8)).resize((width, height))
    noise = random.integers(-40, 41, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


def _write_images(root: Path) -> list[str]:
    rows = []
    for folder in ("files", "ppm"):
        (root / folder).mkdir(parents=True)
    for number, (width, height) in enumerate(SIZES):
        file = root / "files" / f"{number:02}.png"
        picture(width, height).save(file)
        picture(width, height).save(root / "ppm" / f"{number:02}.ppm")
        content = file.read_bytes()
        row = dict.fromkeys(SCHEMA) | {"name": file.name, "file": file.name, "offset": 0, "faults": []}
        row |= {"length": len(content), "checksum": hashlib.sha256(content).hexdigest()}
        rows.append(row | {"label": number % len(NAMES), "split": "test"})
    (root / "split").mkdir()
    write_manifest(pl.DataFrame(rows, schema=SCHEMA), root / "split/manifest.parquet")
    IngestReport(root=str(root / "files")).write(root / "ingest/report.json")
    Classes(names=dict(enumerate(NAMES))).write(root / "ingest/classes.json")
    return [f"{number:02}.png" for number in range(len(SIZES))]


def _build(engine: str, exported: Path, out: Path, card: Card) -> Card:
    backend = engine.removesuffix("-fp32")
    out.mkdir(parents=True)
    made, _ = build_engine(Target(backend, "fp32", BATCH, ()), exported, out, None)
    changed = {"form": engine, "backend": backend, "made_from": card.artifact, "device": made.device}
    return write_card(out, card.model_copy(update=changed))


def _evaluated(root: Path, form: str, folder: Path) -> npt.NDArray[np.float64]:
    (root / "evaluate").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)  # here evaluate caches images; another worker uses the same folder
        patch.setattr(steps.evaluate, "_note_latency", lambda *_: None)  # saves seconds
        evaluate(form, folder, root / "ingest", root / "split", root / "evaluate")
    scores = pl.read_parquet(root / f"evaluate/{form}.parquet")["scores"].to_list()
    return np.exp(log_softmax(np.array(scores, np.float32)))


def add_engine(release: Path, target: Target, **changed: object) -> Path:
    """Build another engine into the release, and write a new seal."""
    folder = release / "engines/added"
    folder.mkdir()
    made, _ = build_engine(target, release / "model", folder, None)
    card = Card.read(release / "model/card.json")
    update = {"form": "added", "backend": target.backend, "precision": target.precision, "device": made.device}
    write_card(folder, card.model_copy(update=update | changed))
    seal_release(release, (*ReleaseCard.read(release / INDEX).engines, "added"))
    return folder


def seal_release(folder: Path, engines: tuple[str, ...]) -> None:
    """Write verdict, index and seal of the folder's contents, as after a run in which everything passed."""
    places = {"export": "model", **{engine: f"engines/{engine}" for engine in engines}}
    cards = {form: card_checksum(Card.read(folder / place / "card.json")) for form, place in places.items()}
    _passed(cards).write(folder / "verdict.json")
    for name, content in plain_files(Card.read(folder / "model/card.json")).items():
        (folder / name).write_bytes(content)
    for name in (INDEX, SUMS):
        (folder / name).unlink(missing_ok=True)
    ReleaseCard(name="classifier", engines=engines, files=checksums(folder)).write(folder / INDEX)
    write_sums(folder)


def _passed(cards: dict[str, str]) -> Verdict:
    forms = (FormVerdict(form=form, judgement="pass", required=True, card=card) for form, card in cards.items())
    return Verdict(judgement="pass", forms=tuple(forms))
