"""The published gains of multi-branch training, looked for on real images: the same small network, plain and wide.

    python -m benchmarks.reparam_gain [--images PATH] [--arch NAME] [--epochs N] [--device D] [--workers N]
                                      [--full] [--write]

Fashion-MNIST from Debian's dataset-fashion-mnist, and with `--images` another set: a folder or tar of JPEG files
`train/<class>/*` and `test/<class>/*` such as CIFAR-10's. With one seed every form sees the same images in one
order; the folded network of the last epoch is judged on test images, so nothing is chosen by looking at them.
Prints a Markdown table; a gain is called clear where its 95 % interval, Student's t of the seeds' differences from
the plain network, leaves zero out. Fails only where a trained network and its folded form are not the same
function. The default is the least that shows something on a CPU.

`--arch` names a paper's network, which is trained on the images of `--images` alone where they are given: the
published gains are CIFAR-10's. `cifar_quick` (ACNet) takes 10,000 images and 6 epochs: one to two core hours.
`vgg16_cifar` (ACNet, DBB) takes 10,000 and 6, which is about 13 hours of one core: it wants `--device cuda`.
`--full` takes all images and 15 epochs, of repvgg_nano unless `--arch` names another. Each training's outcome is
kept in `.foldline/reparam_gain/`, for these images, this code and these versions: the same command goes on.
"""

import hashlib
import json
import statistics
import tempfile
from concurrent.futures import as_completed
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bounds import Figure, command_line, one_sentence, report
from benchmarks.gain_training import FORMS, Budget, Outcome, train
from benchmarks.image_sets import fashion, read_images, store
from benchmarks.syntax import code_of
from steps.cores import usable_cores
from steps.errors import BadInput
from steps.files import end_with_parent
from steps.images.workers import spawned
from steps.progress import say

SEEDS = range(5)
T_OF_SEEDS = 2.776  # Student's t with 4 degrees of freedom, 97.5 %
WORKERS_ON_A_GPU = 6  # networks this small leave most of it idle
KEPT = Path(".foldline/reparam_gain")
ROOMS = ("images", "models", "reparam", "tracing", "training", "weights")  # the code that an outcome depends on
PUBLISHED = {
    "ACB": "+0.67 Cifar-quick, +0.55 VGG-16 (ACNet); +0.48 VGG-16 (DBB), CIFAR-10",
    "DBB": "+0.67 VGG-16, CIFAR-10",
    "RepVGG": "72.41 against ResNet-18's 71.16, ImageNet",
}
MAX_FOLD_ERROR = 1e-12
SMALL = {
    None: Budget("benchmarks.gain_training:small_body", train=5000, test=5000, epochs=4),
    "repvgg_nano": Budget("repvgg_nano", train=5000, test=5000, epochs=4),
    "cifar_quick": Budget("cifar_quick", train=10_000, test=10_000, epochs=6),
    "vgg16_cifar": Budget("vgg16_cifar", train=10_000, test=10_000, epochs=6),
}
FULL = Budget("repvgg_nano", train=60_000, test=10_000, epochs=15)
ARCHS = tuple(filter(None, SMALL))


def main() -> None:
    """Train every form with every seed on each set of images, and print what the blocks gained."""
    arguments = _arguments()
    budget = FULL if arguments.full else SMALL[arguments.arch]
    budget = budget._replace(arch=arguments.arch or budget.arch, epochs=arguments.epochs or budget.epochs)
    worst = 0.0
    tables: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        with one_sentence("reparam_gain"):
            stored = _stored(Path(folder), arguments)
        for images in stored:
            outcomes = _train_all(images, budget, arguments.device, arguments.workers)
            table = _table(images, budget, outcomes)
            print(*table, sep="\n", flush=True)
            tables += table
            worst = max([worst, *(outcome.fold_error for outcome in outcomes)])
    arguments.block += f" {arguments.arch}" if arguments.arch else ""
    figure = Figure(
        "largest error of folding, relative, over all trained networks", worst, "at most", MAX_FOLD_ERROR
    )
    report([figure], arguments, tables)


def _stored(folder: Path, arguments: Any) -> list[Path]:
    """Write the sets of images into `folder` and return where each is."""
    if arguments.images:
        store(folder / arguments.images.name.partition(".")[0], *read_images(arguments.images))
    if not (arguments.images and arguments.arch):
        try:
            store(folder / "Fashion-MNIST", *fashion())
        except BadInput as missing:
            if not arguments.images:
                raise
            print(f"without Fashion-MNIST: {missing}")
    return sorted(folder.iterdir(), reverse=True)


def _arguments() -> Any:
    parser = command_line("reparam_gain", __doc__)
    parser.add_argument("--images", type=Path, help="folder or tar of train/<class>/* and test/<class>/*")
    parser.add_argument("--arch", choices=ARCHS, help="the plain network")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, help="trainings at a time; one a core, 6 on a GPU")
    parser.add_argument("--full", action="store_true", help="all images, 15 epochs: hours on a CPU")
    return parser.parse_args()


def _table(images: Path, budget: Budget, outcomes: list[Outcome]) -> list[str]:
    """Return the lines of a heading and a Markdown table, a row a form."""
    plain: list[float] = []
    name = budget.arch.rpartition(":")[2]
    there = np.load(images / "sizes.npy").tolist()  # a set may have fewer than the budget allows
    trained, judged = (min(pair) for pair in zip((budget.train, budget.test), there, strict=True))
    size = f"{name}, {trained:,} images, {budget.epochs} epochs, {judged:,} test images"
    lines = [
        "",
        f"{images.name} ({size}, {len(SEEDS)} seeds).",
        "Top-1 in %, mean and standard deviation over the seeds:",
        "",
        "| form | top-1 | gain, seed by seed | 95 % interval | published |",
        "|---|---|---|---|---|",
    ]
    for form in FORMS:
        scores = [100 * outcome.top1 for outcome in outcomes if outcome.form == form]
        plain = plain or scores
        gains = [score - base for score, base in zip(scores, plain, strict=True)]
        gain = f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f} | {interval(gains)}"
        score = f"{statistics.mean(scores):.2f} ± {statistics.stdev(scores):.2f}"
        of_form = " | " if form == "plain" else gain
        lines.append(f"| {form} | {score} | {of_form} | {PUBLISHED.get(form, '')} |")
    return lines


def interval(gains: list[float]) -> str:
    """Return the 95 % interval of the mean gain of the five seeds, and whether zero lies outside."""
    assert len(gains) == len(SEEDS) == 5, "the quantile is that of five"
    mean, half = statistics.mean(gains), T_OF_SEEDS * statistics.stdev(gains) / len(gains) ** 0.5
    return f"{mean - half:+.2f} .. {mean + half:+.2f}{', clear' if abs(mean) > half else ''}"


def _train_all(images: Path, budget: Budget, device: str, workers: int | None) -> list[Outcome]:
    """Return the outcome of every seed and form, in that order; what an earlier run kept is not trained again."""
    jobs = list(product(SEEDS, FORMS))
    kept = KEPT / f"{fingerprint(images, budget, device)}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    known = _read(kept)
    workers = workers or (WORKERS_ON_A_GPU if device == "cuda" else usable_cores())
    with spawned(workers, end_with_parent) as pool:
        missing = [job for job in jobs if job not in known]
        futures = {pool.submit(train, images, budget, form, seed, device): (seed, form) for seed, form in missing}
        for future in as_completed(futures):
            seed, form = futures[future]
            known[seed, form] = outcome = future.result()
            with kept.open("a") as file:
                file.write(json.dumps({"seed": seed, **outcome._asdict()}) + "\n")
            say(f"{images.name}, seed {seed}, {form}: top-1 {outcome.top1:.4f} ({len(known)} of {len(jobs)})")
    return [known[job] for job in jobs]


def fingerprint(images: Path, budget: Budget, device: str) -> str:
    """Return a name for all that an outcome depends on but the seed and the form."""
    code = [path for room in ROOMS for path in sorted(Path("steps", room).glob("*.py"))]
    code += [Path(__file__).with_name(name) for name in ("gain_training.py", "small_training.py")]
    facts = [*map(str, budget), device, version("torch")]
    digest = hashlib.sha256("\0".join(facts).encode())
    for path in code:
        digest.update(hashlib.sha256(code_of(path)).digest())
    for path in (images / "images.npy", images / "labels.npy"):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"{images.name}-{budget.arch.rpartition(':')[2]}-{digest.hexdigest()[:12]}"


def _read(kept: Path) -> dict[tuple[int, str], Outcome]:
    """Return the kept outcomes by seed and form."""
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    return {(row.pop("seed"), row["form"]): Outcome(**row) for row in rows}


if __name__ == "__main__":
    main()
