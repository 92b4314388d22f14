"""What serving costs beside the bare engine: decode, preprocess and infer, as a release is used.

    python -m benchmarks.served [--images PATH] [--images-a-round 8] [--rounds 40] [--full] [--write]

RepVGG-A0 at 224 pixels (short side to 256, bilinear, centre crop; random weights, which cost the same) in ONNX
Runtime on one thread. Two served paths, each the real code: the release's own predict.py, an image at a time from
its file to its printed line; and tools.predict, in batches of `--images-a-round`. Beside each the bare engine on
tensors that lie ready, in the same batches, and a bare decode of the same files to RGB with Pillow. All take turns
in one process, and the ratio of a round's process CPU times is taken; the median of the rounds is reported.

`--images` is a folder of JPEG files, or a tar of them; without it, 500 x 375 pixels of soft blobs and noise are
drawn and encoded. `--full` is 200 rounds.
"""

import importlib.util
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.bounds import Figure, command_line, report
from steps.backends.interleaved_timing import exported
from steps.engines.contract import Runner
from steps.models.architectures import create
from steps.progress import track
from steps.release import CONSUMERS
from steps.reports.artifact import write_card
from steps.reports.card import Card, Preprocessing
from steps.reports.release import INDEX, ReleaseCard, checksums, plain_files, write_sums
from steps.reports.verdict import FormVerdict, Verdict, card_checksum
from tools.predict import open_release, predict

ARCH, CLASSES, SIZE = "repvgg_a0_plain", 1000, 224
HOW = Preprocessing(
    size=SIZE, resize=256, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
MOST = 1.15
WARM_ROUNDS = 2
Seconds = dict[str, list[float]]


def main() -> None:
    """Let the served paths and the bare ones take turns, and report the ratios."""
    parser = command_line("served", __doc__)
    parser.add_argument("--images", type=Path, metavar="PATH")
    parser.add_argument("--images-a-round", type=int, default=8, metavar="N")
    parser.add_argument("--rounds", type=int, default=40, metavar="N")
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    rounds = 200 if arguments.full else arguments.rounds
    with tempfile.TemporaryDirectory() as folder:
        files = _image_files(arguments.images, Path(folder) / "images")
        release = _write_release(Path(folder) / "release")
        seconds = _take_turns(release, files, arguments.images_a_round, rounds)
    print(f"images: {arguments.images or 'drawn and encoded here'}; {len(files)} files")
    for name, values in seconds.items():
        per_image = 1000 * statistics.median(values) / arguments.images_a_round
        print(f"{name:<45} {per_image:7.2f} ms of CPU time an image (median of {rounds} rounds)")
    report(
        [
            _figure("predict.py, one image at a time", seconds, "predict.py", "engine, one at a time"),
            _figure(
                f"tools.predict, {arguments.images_a_round} a batch", seconds, "tools.predict", "engine, batch"
            ),
        ],
        arguments,
    )


def _figure(name: str, seconds: Seconds, served: str, engine: str) -> Figure:
    rows = zip(seconds[served], seconds[engine], seconds["decode"], strict=True)
    ratio = statistics.median(whole / (bare + decode) for whole, bare, decode in rows)
    return Figure(f"{name}: CPU time / (bare engine + bare decode)", ratio, "at most", MOST)


def _take_turns(release: Path, files: list[Path], count: int, rounds: int) -> Seconds:
    """Return the process CPU seconds of each path in each round; every round takes the next `count` images."""
    consumer = _load_consumer(release)
    classifier = consumer.Classifier(release, threads=1)
    run, card = open_release(release, threads=1)
    seconds: Seconds = {}
    for number in track(range(-WARM_ROUNDS, rounds), "served", rounds + WARM_ROUNDS, "rounds"):
        some = [files[(number * count + position) % len(files)] for position in range(count)]
        paths = _paths(consumer, classifier, run, card, some)
        turn = list(paths)[:: 1 if number % 2 else -1]  # whoever goes first warms the files for the others
        for name in turn:
            begin = time.process_time()
            paths[name]()
            if number >= 0:
                seconds.setdefault(name, []).append(time.process_time() - begin)
    return {name: seconds[name] for name in sorted(seconds)}


def _paths(
    consumer: ModuleType, classifier: Any, run: Runner, card: Card, files: list[Path]
) -> dict[str, Callable[[], object]]:
    ready_NHWC_u8 = np.random.default_rng(0).integers(0, 256, (len(files), SIZE, SIZE, 3), dtype=np.uint8)
    session = classifier.session
    (source,) = session.get_inputs()
    return {
        "predict.py": lambda: [consumer.classify(classifier, file, 1) for file in files],
        "tools.predict": lambda: list(predict(files, run, card, batch=len(files), threads=1)),
        "engine, one at a time": lambda: [
            session.run(None, {source.name: ready_NHWC_u8[n : n + 1]}) for n in range(len(files))
        ],
        "engine, batch": lambda: run(ready_NHWC_u8),
        "decode": lambda: [_decode(file) for file in files],
    }


def _decode(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def _load_consumer(release: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("released_predict", release / "predict.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write_release(folder: Path) -> Path:
    """Write what a release holds as far as its consumers look."""
    exported(create(ARCH, CLASSES, SIZE), ARCH, CLASSES, SIZE, 1, folder / "model")
    card = Card.read(folder / "model/card.json")
    card = write_card(folder / "model", card.model_copy(update={"preprocessing": HOW}))
    (folder / "predict.py").write_bytes((CONSUMERS / "predict.py").read_bytes())
    for name, content in plain_files(card).items():
        (folder / name).write_bytes(content)
    judged = FormVerdict(form="export", judgement="pass", required=True, card=card_checksum(card))
    Verdict(judgement="pass", forms=(judged,)).write(folder / "verdict.json")
    ReleaseCard(name="served", files=checksums(folder)).write(folder / INDEX)
    write_sums(folder)
    return folder


def _image_files(images: Path | None, scratch: Path) -> list[Path]:
    """Return the JPEG files of the folder or tar, or a few drawn ones."""
    if images is None:
        return _drawn(scratch)
    if images.is_file():
        with tarfile.open(images) as archive:
            archive.extractall(scratch, filter="data")
        images = scratch
    return sorted(path for path in images.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))


def _drawn(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(32):
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        soft_HWC = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.float64)
        noisy_HWC = (soft_HWC + random.normal(0, 12, soft_HWC.shape)).clip(0, 255)
        Image.fromarray(noisy_HWC.astype(np.uint8)).save(folder / f"{number:02}.jpg", quality=88)
    return sorted(folder.iterdir())


if __name__ == "__main__":
    main()
