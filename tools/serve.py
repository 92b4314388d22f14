"""Write a Triton model repository from a release: `python -m tools.serve --out models/ [--engine NAME] ...`

OUT/NAME holds config.pbtxt, labels.txt, a README that says what a client sends, the release's predict.py (whose
functions make that from an image file), and the engine in the version folder 1. Other models in OUT are left
alone; an earlier one of the same name and of this tool is replaced, whole or not at all. Then, with the engine's
own runtime in the server:

    tritonserver --model-repository=models/

Exit code 0: written; 2: something could not be used, and a sentence says what.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steps.engines.names import BACKENDS
from steps.errors import BadInput, StepError
from steps.files import replace_folder, write_whole
from steps.pages.serving import client_page
from steps.params.release import ReleaseParams
from steps.progress import say
from steps.reports.artifact import read_verified_card
from steps.reports.card import Card
from steps.reports.release import INDEX, SUMS, ReleaseCard
from tools.releases import (
    MODEL,
    engine_folder,
    keep_out_of_releases,
    refuse_a_folder_of_others,
    verified_release,
)
from tools.triton_config import config_text

VERSION = "1"
CONFIG = "config.pbtxt"
MOST_IMAGES = 64  # at once, for an engine that takes any number
MOST = 2**31 - 1  # what Triton's configuration holds its numbers in
QUEUE_MICROSECONDS = 200  # how long an image may wait for company
Graph = tuple[str, str]  # the names of its input and its output


def _most_images(card: Card, asked: int | None) -> int:
    least, _, most = card.device.batch or (1, 0, 0)
    if least > 1:
        raise BadInput(
            f"{card.form} takes at least {least} images at once, and a server cannot promise so many; build it "
            "with build.batch.min: 1."
        )
    if most and asked and asked > most:
        raise BadInput(f"--max-batch {asked}: {card.form} takes at most {most} images at once.")
    return asked or most or MOST_IMAGES


def _gathered(config: dict[str, Any], card: Card, asked: int | None) -> dict[str, Any]:
    """Let Triton gather single requests to batches; it adds the batch to `dims` itself."""
    most = _most_images(card, asked)
    best = [min(card.device.batch[1], most)] if card.device.batch else []
    batching = {"preferred_batch_size": best, "max_queue_delay_microseconds": QUEUE_MICROSECONDS}
    return {**config, "max_batch_size": most, "dynamic_batching": batching}


def _as_they_come(config: dict[str, Any], card: Card, asked: int | None) -> dict[str, Any]:
    """Run each request as it is: with a max_batch_size, Triton's OpenVINO takes batches of that very size only."""
    if asked is not None:
        raise BadInput(
            f"--max-batch {asked}: for {card.form} Triton would take batches of that very size only; leave it "
            "out, and any number of images may come in a request."
        )
    for tensor in (config["input"][0], config["output"][0]):
        tensor["dims"] = [-1, *tensor["dims"]]
    return {**config, "max_batch_size": 0}


@dataclass(frozen=True)
class Server:
    """How Triton runs a backend's engines: keys that say so, where, how batches and threads are set."""

    keys: dict[str, str]
    kind: str
    batches: Callable[[dict[str, Any], Card, int | None], dict[str, Any]]
    threads: str | None = None


SERVERS: dict[str, Server] = {
    "onnxruntime": Server({"platform": "onnxruntime_onnx"}, "KIND_CPU", _gathered, "intra_op_thread_count"),
    "openvino": Server({"backend": "openvino"}, "KIND_CPU", _as_they_come, "INFERENCE_NUM_THREADS"),
    "tensorrt": Server({"platform": "tensorrt_plan"}, "KIND_GPU", _gathered),
}


@dataclass(frozen=True)
class Wanted:
    """What the flags ask for; None leaves it to the release's name, the engine's card and the runtime."""

    engine: str = MODEL
    name: str | None = None
    max_batch: int | None = None
    instances: int = 1
    threads: int | None = None


def serve(release: Path, out: Path, wanted: Wanted) -> Path:
    """Write the model's folder below `out`, whole or not at all, and return it. Raises BadInput."""
    keep_out_of_releases("--out", out)
    release = verified_release(release)
    index = ReleaseCard.read(release / INDEX)
    name = _checked_name(wanted.name if wanted.name is not None else index.name)
    folder = engine_folder(release, index, wanted.engine)
    card = read_verified_card(folder)
    server = _server_of(card)
    config = _config(name, card, server, wanted, _graph(release / MODEL / "model.onnx"))
    target = out / name
    refuse_a_folder_of_others(target, _is_ours(target), "--out or --name")
    out.mkdir(parents=True, exist_ok=True)
    # Beside `out`, not in it: a server that polls the repository must not see half of a model.
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".tmp", dir=out.absolute().parent) as scratch:
        written = Path(scratch) / name
        (written / VERSION).mkdir(parents=True)
        for file in BACKENDS[card.backend].files:
            shutil.copyfile(folder / file, written / VERSION / file)
        for file in ("labels.txt", "predict.py", INDEX):
            shutil.copyfile(release / file, written / file)
        write_whole(written / "README.md", client_page(name, card, config).encode())
        write_whole(written / CONFIG, config_text(config).encode())
        replace_folder(written, target)
    return target


def _config(name: str, card: Card, server: Server, wanted: Wanted, graph: Graph) -> dict[str, Any]:
    """Return the model's configuration."""
    side = {"sized": card.preprocessing.size, "any": -1}[card.takes]
    source = {"name": graph[0], "data_type": "TYPE_UINT8", "dims": [side, side, 3]}
    scores = {"name": graph[1], "data_type": "TYPE_FP32", "dims": [card.class_num], "label_filename": "labels.txt"}
    config: dict[str, Any] = {
        "name": name,
        **server.keys,
        "default_model_filename": BACKENDS[card.backend].files[0],
        "input": [source],
        "output": [scores],
        "instance_group": [{"count": wanted.instances, "kind": server.kind}],
    }
    if wanted.threads is not None and server.threads is None:
        raise BadInput(f"--threads: {card.form} runs on a GPU, which has no threads to count.")
    threads = wanted.threads or card.device.threads
    if threads and server.threads is not None:
        config["parameters"] = {server.threads: {"string_value": str(threads)}}
    return server.batches(config, card, wanted.max_batch)


def _graph(model: Path) -> Graph:
    """Return the names of the exported graph's input and output, which all its engines have kept."""
    import onnx

    graph = onnx.load(model).graph
    (source,), (scores,) = graph.input, graph.output
    return source.name, scores.name


def _server_of(card: Card) -> Server:
    if card.backend not in SERVERS:
        raise BadInput(
            f"{card.form}: Triton has no backend for {card.backend}; engines that it serves are those of "
            f"{', '.join(SERVERS)}."
        )
    return SERVERS[card.backend]


def _checked_name(name: str) -> str:
    """Return the model's name if it can be a folder and a part of an address."""
    try:
        return ReleaseParams(name=name).name
    except ValueError as fault:
        raise BadInput(
            f"'{name}' is no name for a model: small letters, digits, '-' and '_', at most 63; see --name."
        ) from fault


def _is_ours(target: Path) -> bool:
    sealed = (target / SUMS).exists()  # a release, whose index this tool's folders hold too
    return not sealed and all((target / name).is_file() for name in (INDEX, CONFIG))


def _count(text: str) -> int:
    digits = text.lstrip("0")
    if not (text.isdecimal() and digits and len(digits) <= len(str(MOST)) and int(digits) <= MOST):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 to {MOST}")
    return int(digits)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    counts: dict[str, tuple[Callable[[str], int], str]] = {
        "--max-batch": (_count, f"most images at once (what the engine was built for, or {MOST_IMAGES})"),
        "--instances": (_count, "copies of the model that serve at the same time (1)"),
        "--threads": (_count, "threads of each copy, on a CPU (what its card says, or its runtime likes)"),
    }
    parser.add_argument("--release", type=Path, default=Path("data/release"), metavar="PATH")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the model repository")
    parser.add_argument("--engine", default=MODEL, metavar="NAME", help=f"one that the release holds ({MODEL})")
    parser.add_argument("--name", metavar="NAME", help="the model's name (the release's)")
    for flag, (kind, says) in counts.items():
        parser.add_argument(flag, type=kind, metavar="N", help=says)
    return parser.parse_args()


def main() -> None:
    """Run the tool; what a person can cause ends in one sentence and exit code 2."""
    flags = _parse()
    wanted = Wanted(flags.engine, flags.name, flags.max_batch, flags.instances or 1, flags.threads)
    try:
        written = serve(flags.release, flags.out, wanted)
    except (StepError, OSError) as error:
        say(f"serve: {error}")
        sys.exit(2)
    say(f"serve: {written} is written; its README.md says what a client sends.")


if __name__ == "__main__":
    main()
