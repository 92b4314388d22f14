"""Every public CNN through expand, a training step, fold and a strict load into the original: none may differ.

    python -m benchmarks.fold_zoo [--minutes 10] [--full] [--shard 0/4] [--only NAME ...]

timm's and torchvision's networks of up to 60 million parameters, with fresh weights, at 64 px or the least input
they take; the block is chosen by a hash of the name. Networks with blocks of their own load into their library's
inference form. One family after the other, so that any part of the list has something of each. Results are kept
in `.foldline/fold_zoo/`, for this code and these versions: the same command again goes on with what is missing.
"""

import argparse
import collections
import gc
import hashlib
import json
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from benchmarks.bounds import Figure, report
from steps.errors import BadInput
from steps.models import zoos
from steps.models.architectures import create
from steps.reparam.branches import BLOCKS
from steps.reparam.certify import relative_error
from steps.reparam.copies import copied
from steps.reparam.expand import expand
from steps.reparam.fold import absorb_norms, fold, norms_left
from steps.reparam.library_blocks import library_blocks, library_form
from steps.reparam.pairing import SIZES

BOUND = 1e-9  # relative, float64: what whole networks of hundreds of layers leave of 1e-12 a site
LARGEST = 60_000_000
CLASSES = 10
BATCH = 8  # at 64 px many end in one pixel: the statistics of two images would magnify rounding a thousandfold
KEPT = Path(".foldline/fold_zoo")


class Result(NamedTuple):
    """What became of one network."""

    name: str
    block: str = ""
    size: int = 0
    sites: int = 0  # expanded
    library_blocks: int = 0
    norms_left: int = 0
    error: float | None = None  # the worst of folded, loaded and absorbed
    skipped: str = ""
    wrong: str = ""
    seconds: float = 0.0


def main() -> None:
    """Try the networks that are not yet in the kept results and report the counts of all that are."""
    arguments = _arguments()
    torch.set_num_threads(1)  # images are small: a second thread waits longer than it works; use shards instead
    kept = KEPT / f"{fingerprint()}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    known = {result.name: result for result in _read(kept)}
    names = arguments.only or list(in_shard(by_family(), arguments.shard))
    end = time.monotonic() + (float("inf") if arguments.full or arguments.only else 60 * arguments.minutes)
    for name in names:
        if name in known and not arguments.only:
            continue
        if time.monotonic() > end:
            break
        known[name] = result = tried(name)
        with kept.open("a") as file:
            file.write(json.dumps(result._asdict()) + "\n")
        print(_line(result), flush=True)
    report(figures([known[name] for name in names if name in known], len(names)))


def tried(name: str) -> Result:
    """Return what becomes of a network, whatever it raises."""
    begin = time.monotonic()
    block = list(BLOCKS)[zlib.crc32(name.encode()) % len(BLOCKS)]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries say of their own networks
        try:
            result = _through(name, block)
        except Exception as fault:  # a network that none foresaw is a failure, not the end
            result = Result(name, block, wrong=f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}")
    gc.collect()
    return result._replace(seconds=round(time.monotonic() - begin, 1))


def _through(name: str, block: str) -> Result:
    """Take one network the whole way."""
    found = _built(name)
    if isinstance(found, str):
        return Result(name, block, skipped=found)
    network, size = found
    batch_NCHW = torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(1))
    image_NCHW = batch_NCHW[:2].double()
    own = library_blocks(network)
    try:
        sites = len(expand(network, block, init="standard", example_NCHW=image_NCHW).expanded)
    except BadInput as none:
        if not own:
            return Result(name, block, size, skipped=_reason(str(none)))
        sites = 0
    stopped = _train_a_step(network, batch_NCHW)
    if stopped:
        return Result(name, block, size, sites, len(own), skipped=stopped)
    plain = fold(network, image_NCHW)
    original = library_form(create(name, CLASSES, size).eval()).double()
    original.load_state_dict(plain.state_dict(), strict=True)
    absorbed = absorb_norms(plain, image_NCHW)
    left = norms_left(absorbed, image_NCHW)
    errors = _errors(network, (plain, original, absorbed), image_NCHW)
    wrong = [error for error in errors if error is None or error > BOUND]
    return Result(
        name,
        block,
        size,
        sites,
        len(own),
        len(left),
        None if None in errors else max(filter(None, errors), default=0.0),
        wrong=f"the outputs differ by {wrong}" if wrong else "",
    )


def _built(name: str) -> tuple[nn.Module, int] | str:
    """Return the network and the least size from 64 px on that it takes, or why there is none."""
    with torch.device("meta"):
        try:
            parameters = sum(parameter.numel() for parameter in create(name, CLASSES, 224).parameters())
        except Exception:  # not every network is made without numbers
            parameters = 0
    faults = []
    for size in (size for size in SIZES if size >= 64 and parameters <= LARGEST):
        try:
            network = create(name, CLASSES, size)
            parameters = sum(parameter.numel() for parameter in network.parameters())
            if parameters > LARGEST:
                break
            with torch.no_grad():
                copied(network).eval()(torch.zeros(1, 3, size, size))
            return network, size
        except Exception as fault:  # whatever a network raises on a size that it does not take
            faults.append(f"{type(fault).__name__}: {' '.join(str(fault).split())[:120]}")
    return (
        f"over {LARGEST // 10**6} million parameters" if parameters > LARGEST else f"takes no image, {faults[-1]}"
    )


def _train_a_step(network: nn.Module, batch_NCHW: Tensor) -> str:
    """Take one step of gradient descent, leave the network in eval mode; return why it cannot be taken, or "".

    The norms then take over the batch's statistics whole: a tenth of them, as after one usual step, lets a
    network of hundreds of branches grow beyond all numbers in eval mode.
    """
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    try:
        outputs = [output for output in tree_leaves(network(batch_NCHW)) if isinstance(output, Tensor)]
        torch.stack([output.square().mean() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as fault:
        return f"cannot train at this size, {' '.join(str(fault).split())[:100]}"
    optimizer.step()
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        for _ in range(2):  # a DBB border is made of the statistics before the pass
            network(batch_NCHW)
        found = tree_leaves(network.double().eval()(batch_NCHW.double()))
    finite = all(bool(output.isfinite().all()) for output in found if isinstance(output, Tensor))
    return "" if finite else "its own outputs are not finite"


@torch.no_grad()
def _errors(network: nn.Module, forms: tuple[nn.Module, ...], image_NCHW: Tensor) -> list[float | None]:
    expected = tree_leaves(network(image_NCHW))
    return [
        relative_error(one, other)
        for form in forms
        for one, other in zip(expected, tree_leaves(form(image_NCHW)), strict=True)
        if isinstance(one, Tensor)
    ]


def _reason(sentence: str) -> str:
    """Return the kind of reason for which `expand` finds no site, without the names of layers."""
    if "it has no convolutions" in sentence:
        return "no convolution"
    if "no batch norm takes its output" in sentence or "also used by" in sentence:
        return "no convolution is followed by a batch norm of its own"
    return sentence.rpartition(": skipped, ")[2][:100]


def by_family() -> list[str]:
    """Return all networks, the first of each family (a module of its library), then the second of each, ..."""
    import timm
    import torchvision

    makers = {f"timm:{name}": timm.model_entrypoint(name) for name in zoos.timm_names()}
    for name in zoos.torchvision_names():
        makers[f"torchvision:{name}"] = torchvision.models.get_model_builder(name)
    families: dict[str, list[str]] = collections.defaultdict(list)
    for name in sorted(makers, key=lambda name: zlib.crc32(name.encode())):
        families[makers[name].__module__].append(name)
    ranked = [(rank, name) for names in families.values() for rank, name in enumerate(names)]
    return [name for _, name in sorted(ranked)]


def in_shard(names: list[str], shard: str) -> Iterator[str]:
    """Yield the networks of one shard, written as number/count."""
    number, count = map(int, shard.split("/"))
    yield from names[number::count]


def fingerprint() -> str:
    """Return a name for the code and the versions that a result holds for."""
    room = sorted(Path("steps/reparam").glob("*.py"))
    parts = [path.read_bytes() for path in (*room, Path(__file__))]
    parts += [f"{package} {version(package)}".encode() for package in ("torch", "timm", "torchvision")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def figures(results: list[Result], listed: int) -> list[Figure]:
    """Print the counts and return what must hold of them."""
    skipped = collections.Counter(result.skipped.partition(",")[0] for result in results if result.skipped)
    folded = [result for result in results if not result.skipped and not result.wrong]
    wrong = [result for result in results if result.wrong]
    own = sum(result.library_blocks > 0 for result in folded)
    print(f"\n{len(results)} of {listed} networks tried: {len(folded)} folded ({own} with blocks of their own)")
    blocks = collections.Counter(result.block for result in folded)
    print(f"  sites {sum(result.sites for result in folded)}, networks by block {dict(sorted(blocks.items()))}")
    print(f"  norms left, each listed with its reason: {sum(result.norms_left for result in folded)}")
    for reason, count in skipped.most_common():
        print(f"  {count} skipped: {reason}")
    for result in wrong:
        print(f"  WRONG {result.name} ({result.block}): {result.wrong}")
    errors = [result.error for result in folded if result.error is not None]
    return [
        Figure("networks wrong", len(wrong), "at most", 0),
        Figure("networks folded", len(folded), "at least", 1),
        Figure("worst relative error in float64", max(errors, default=0.0), "at most", BOUND),
    ]


def _line(result: Result) -> str:
    said = (result.wrong and f"WRONG {result.wrong}") or (result.skipped and f"skipped: {result.skipped}")
    return f"{result.name} {result.block} {result.size} px {result.seconds:.0f} s: " + (
        said or f"{result.sites} sites, {result.library_blocks} own blocks, error {result.error:.1e}"
    )


def _read(kept: Path) -> list[Result]:
    lines = kept.read_text().splitlines() if kept.is_file() else []
    return [Result(**json.loads(line)) for line in lines]


def _arguments() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--full", action="store_true", help="all of them, without a limit")
    parser.add_argument("--shard", default="0/1", help="number/count, for several machines or processes")
    parser.add_argument("--only", nargs="+", help="these networks, as library:name")
    return parser.parse_args(sys.argv[1:])


if __name__ == "__main__":
    main()
