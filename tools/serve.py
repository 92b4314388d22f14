"""Write a Triton model repository from a release: `python -m tools.serve --out models/ [--engine NAME] ...`

OUT/NAME holds config.pbtxt, labels.txt, a README about the requests of a client, the release's predict.py (with
functions that prepare an image file for a request), and the engine in the version folder 1. Other models in OUT
stay as they are. An earlier model with this name, written by this tool, is replaced, whole or not at all. Then
start the server, which needs the engine's runtime:

    tritonserver --model-repository=models/

Exit code 0: written. Exit code 2: something could not be used, and a sentence names it.
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
MOST_IMAGES = 64  # in one batch, for an engine that takes any number
MOST = 2**31 - 1  # the largest int32, the type of Triton's numbers
QUEUE_MICROSECONDS = 200  # the longest wait of an image for a batch
Graph = tuple[str, str]  # the names of its input and its output


def _most_images(card: Card, asked: int | None) -> int:
    least, _, most = card.device.batch or (1, 0, 0)
    if least > 1:
        raise BadInput(
            f"{card.form} takes at least {least} images at once, and a server cannot guarantee this number; build "
            "the engine with build.batch.min: 1."
        )
    if most and asked and asked > most:
        raise BadInput(f"--max-batch {asked}: {card.form} takes at most {most} images at once.")
    return asked or most or MOST_IMAGES


def _with_dynamic_batching(config: dict[str, Any], card: Card, asked: int | None) -> dict[str, Any]:
    """Let Triton join single requests into batches; Triton adds the batch axis to `dims`."""
    most = _most_images(card, asked)
    best = [min(card.device.batch[1], most)] if card.device.batch else []
    batching = {"preferred_batch_size": best, "max_queue_delay_microseconds": QUEUE_MICROSECONDS}
    return {**config, "max_batch_size": most, "dynamic_batching": batching}


def _without_batching(config: dict[str, Any], card: Card, asked: int | None) -> dict[str, Any]:
    """Run each request as it is: with max_batch_size, Triton's OpenVINO takes only batches of this size."""
    if asked is not None:
        raise BadInput(
            f"--max-batch {asked}: for {card.form}, Triton would take batches of exactly this size only. "
            "Leave --max-batch out; then a request may have any number of images."
        )
    for tensor in (config["input"][0], config["output"][0]):
        tensor["dims"] = [-1, *tensor["dims"]]
    return {**config, "max_batch_size": 0}


@dataclass(frozen=True)
class Server:
    """How Triton runs a backend's engines: its keys, the device, and the settings of batches and threads."""

    keys: dict[str, str]
    kind: str
    batches: Callable[[dict[str, Any], Card, int | None], dict[str, Any]]
    threads: str | None = None


SERVERS: dict[str, Server] = {
    "onnxruntime": Server(
        {"platform": "onnxruntime_onnx"}, "KIND_CPU", _with_dynamic_batching, "intra_op_thread_count"
    ),
    "openvino": Server({"backend": "openvino"}, "KIND_CPU", _without_batching, "INFERENCE_NUM_THREADS"),
    "tensorrt": Server({"platform": "tensorrt_plan"}, "KIND_GPU", _with_dynamic_batching),
}


@dataclass(frozen=True)
class ServeOptions:
    """The flags; None means the release's name, the engine's card or the runtime's default."""

    engine: str = MODEL
    name: str | None = None
    max_batch: int | None = None
    instances: int = 1
    threads: int | None = None


def serve(release: Path, out: Path, options: ServeOptions) -> Path:
    """Write the model's folder in `out`, whole or not at all, and return the folder; raise BadInput."""
    keep_out_of_releases("--out", out)
    release = verified_release(release)
    index = ReleaseCard.read(release / INDEX)
    name = _checked_name(options.name if options.name is not None else index.name)
    folder = engine_folder(release, index, options.engine)
    card = read_verified_card(folder)
    server = _server_of(card)
    config = _config(name, card, server, options, _graph(release / MODEL / "model.onnx"))
    target = out / name
    refuse_a_folder_of_others(target, _is_ours(target), "--out or --name")
    out.mkdir(parents=True, exist_ok=True)
    # Not in `out`: a server that polls the repository must never see half a model.
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


def _config(name: str, card: Card, server: Server, options: ServeOptions, graph: Graph) -> dict[str, Any]:
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
        "instance_group": [{"count": options.instances, "kind": server.kind}],
    }
    if options.threads is not None and server.threads is None:
        raise BadInput(f"--threads: {card.form} runs on a GPU, which has no threads to count.")
    threads = options.threads or card.device.threads
    if threads and server.threads is not None:
        config["parameters"] = {server.threads: {"string_value": str(threads)}}
    return server.batches(config, card, options.max_batch)


def _graph(model: Path) -> Graph:
    """Return the names of the exported graph's input and output; all engines have the same names."""
    import onnx

    graph = onnx.load(model).graph
    (source,), (scores,) = graph.input, graph.output
    return source.name, scores.name


def _server_of(card: Card) -> Server:
    if card.backend not in SERVERS:
        raise BadInput(
            f"{card.form}: Triton has no backend for {card.backend}; Triton serves engines of "
            f"{', '.join(SERVERS)}."
        )
    return SERVERS[card.backend]


def _checked_name(name: str) -> str:
    """Return the model's name, or raise BadInput if it cannot be a folder and a part of a URL."""
    try:
        return ReleaseParams(name=name).name
    except ValueError as fault:
        raise BadInput(
            f"'{name}' is no name for a model: use at most 63 small letters, digits, '-' and '_'; see --name."
        ) from fault


def _is_ours(target: Path) -> bool:
    sealed = (target / SUMS).exists()  # a release has the same index, but is not this tool's folder
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
        "--max-batch": (_count, f"most images in one batch (the engine's limit, or {MOST_IMAGES})"),
        "--instances": (_count, "copies of the model that run at the same time (1)"),
        "--threads": (_count, "CPU threads of each copy (the engine's card, else the runtime decides)"),
    }
    parser.add_argument("--release", type=Path, default=Path("data/release"), metavar="PATH")
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="the model repository")
    parser.add_argument("--engine", default=MODEL, metavar="NAME", help=f"an engine of the release ({MODEL})")
    parser.add_argument("--name", metavar="NAME", help="the model's name (the release's)")
    for flag, (kind, text) in counts.items():
        parser.add_argument(flag, type=kind, metavar="N", help=text)
    return parser.parse_args()


def main() -> None:
    """Run the tool; an error that a person can cause gives one sentence and exit code 2."""
    flags = _parse()
    options = ServeOptions(flags.engine, flags.name, flags.max_batch, flags.instances or 1, flags.threads)
    try:
        written = serve(flags.release, flags.out, options)
    except (StepError, OSError) as error:
        say(f"serve: {error}")
        sys.exit(2)
    say(f"serve: {written} is written; its README.md describes the requests of a client.")


if __name__ == "__main__":
    main()
