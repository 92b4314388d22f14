"""Every public CNN through expand, a training step, fold and a strict load into the original: none may differ.

    python -m benchmarks.fold_zoo [--minutes 10] [--full] [--shard 0/4] [--only NAME ...] [--write]

The networks of timm and torchvision with up to 60 million parameters, with fresh weights, at 64 px or at the
smallest input that the network takes. A hash of the name draws the block (one of four from the papers), the init
(exact must not move the outputs) and the mode. Networks with blocks of their own load into the inference form of
their library. Families take turns, so that any part of the list has something of each family.

A network is skipped where no convolution has a batch norm, where the network is too large, where it is made for
something else than images, or where the plain network of the library fails in the same way. A network that fails
only with our blocks is WRONG. Some networks move their outputs by 1e-10 when the last place of the input changes,
and cannot be told from a wrong network at 1e-9 (efficientnet_b6 of torchvision with DBB: norms of 32 numbers each,
2.5e-9). Such a network is judged once more, with the statistics of 32 images instead of 8.

Each network has a process of its own. The default tries as many networks as the minutes allow, anew each time.
Results are kept in `.foldline/fold_zoo/` under a fingerprint of this code (without docstrings, comments and
formatting) and of the versions; `--full` goes on with the networks that are missing. `benchmarks/zoo_results/`
holds results in git, a network a line; `--full` uses a file there if the file has the fingerprint of today.
`80a250b0fd20.jsonl` are the results of commit ccac376: of the code before parts of `steps/reparam` moved to other
rooms.
"""

import collections
import hashlib
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.bounds import Figure, command_line, report
from benchmarks.syntax import code_of
from benchmarks.zoo_networks import by_family, in_shard
from benchmarks.zoo_way import BOUND, Result, try_in_own_process

LEAST_FOLDED = 0.99  # of the networks in which a convolution gives its output to a batch norm
ROOMS = [Path("steps/reparam"), Path("steps/tracing")]
MAKERS = [Path("steps/models") / name for name in ("architectures.py", "zoos.py")]  # of the networks
MANY, HUNDREDS = 1000, 500  # of so many networks, so many must fold at least
KEPT = Path(".foldline/fold_zoo")
TRIED = Path(__file__).with_name("zoo_results")


def main() -> None:
    """Try the networks, with `--full` those that are not yet in the kept results, and report the counts."""
    arguments = _arguments()
    torch.set_num_threads(1)  # images are small: a second thread waits longer than it works; use shards instead
    kept = KEPT / f"{fingerprint()}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    goes_on = arguments.full and not arguments.only
    earlier = [*_read(TRIED / kept.name), *_read(kept)] if goes_on else []
    known = {result.name: result for result in earlier}
    names = arguments.only or list(in_shard(by_family(), arguments.shard))
    end = time.monotonic() + (float("inf") if arguments.full or arguments.only else 60 * arguments.minutes)
    for name in names:
        if name in known:
            continue
        if time.monotonic() > end:
            break
        known[name] = result = try_in_own_process(name)
        with kept.open("a") as file:
            file.write(json.dumps(result._asdict()) + "\n")
        print(_line(result), flush=True)
    results = [known[name] for name in names if name in known]
    report(figures(results, len(names)), arguments, counts(results, len(names)))


def fingerprint() -> str:
    """Return a name for the code and the versions that a result holds for."""
    files = [path for room in ROOMS for path in room.glob("*.py")]
    parts = [code_of(path) for path in sorted([*files, *Path(__file__).parent.glob("zoo_*.py"), *MAKERS])]
    parts += [f"{package} {version(package)}".encode() for package in ("torch", "timm", "torchvision")]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def figures(results: list[Result], listed: int) -> list[Figure]:
    """Print the counts and return what must hold of them."""
    folded = [result for result in results if not result.skipped and not result.wrong]
    wrong = [result for result in results if result.wrong]
    foldable = [result for result in results if result.handed_over or result.library_blocks]
    share = sum(result in folded for result in foldable) / max(1, len(foldable))
    _print_counts(results, folded)
    print(*counts(results, listed), sep="\n")
    for result in wrong:
        print(f"  WRONG {result.name} ({result.block}): {result.wrong}")
    errors = [result.error for result in folded if result.error is not None]
    return [
        Figure("networks wrong", len(wrong), "at most", 0),
        Figure("networks folded", len(folded), "at least", HUNDREDS if listed == len(results) >= MANY else 1),
        Figure("of those with a convolution before a norm, folded", share, "at least", LEAST_FOLDED),
        Figure("worst relative error in float64", max(errors, default=0.0), "at most", BOUND),
    ]


def counts(results: list[Result], listed: int) -> list[str]:
    """Return what became of the networks: a sentence, and a Markdown table of the reasons to skip a network."""
    folded = [result for result in results if not result.skipped and not result.wrong]
    own = sum(result.library_blocks > 0 for result in folded)
    sites = sum(result.sites for result in folded)
    reasons = collections.Counter(result.skipped for result in results if result.skipped)
    rows = [f"| {count} | {reason.replace('|', '/')} |" for reason, count in reasons.most_common()]
    return [
        "",
        f"{len(results):,} of {listed:,} networks tried: {len(folded):,} folded ({own} with blocks of their own), "
        f"{sites:,} sites.",
        *(["", "| networks skipped | reason |", "|---|---|", *rows] if rows else []),
    ]


def _print_counts(results: list[Result], folded: list[Result]) -> None:
    blocks = collections.Counter(result.block for result in folded)
    before_norms = sum(result.handed_over for result in folded)
    ways = collections.Counter(f"{result.init} {result.mode}" for result in folded)
    print(f"\nnetworks by block {dict(sorted(blocks.items()))}, by init and mode {dict(sorted(ways.items()))}")
    print(f"  {before_norms} convolutions give their output to a batch norm")
    _print_reasons("convolutions left as they are", [result.left for result in folded])
    _print_reasons("norms left", [result.norms_left for result in folded])
    for result in results:
        if result.skipped and (result.handed_over or result.library_blocks):
            print(f"  skipped with {result.handed_over} convolutions before norms: {_line(result)}")
        if result.sensitivity is not None:
            print(
                f"  looked at again with {result.images} images, its outputs moved by {result.sensitivity:.1e}: "
                f"{_line(result)}"
            )


def _print_reasons(what: str, counted: list[dict[str, int]]) -> None:
    total: collections.Counter[str] = collections.Counter()
    for counts in counted:
        total.update(counts)
    for reason, count in total.most_common():
        print(f"  {what}, {count}: {reason}")


def _line(result: Result) -> str:
    fault = (result.wrong and f"WRONG {result.wrong}") or (result.skipped and f"skipped: {result.skipped}")
    way = f"{result.block} {result.init} {result.mode}"
    return f"{result.name} {way} {result.size} px {result.seconds:.0f} s: " + (
        fault or f"{result.sites} sites, {result.library_blocks} own blocks, error {result.error:.1e}"
    )


def _read(kept: Path) -> list[Result]:
    lines = kept.read_text().splitlines() if kept.is_file() else []
    return [Result(**json.loads(line)) for line in lines]


def _arguments() -> Any:
    parser = command_line("fold_zoo", __doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--full", action="store_true", help="all of them, without a limit")
    parser.add_argument("--shard", default="0/1", help="number/count, for several machines or processes")
    parser.add_argument("--only", nargs="+", help="these networks, as library:name, anew")
    return parser.parse_args(sys.argv[1:])


if __name__ == "__main__":
    main()
