"""Random convolutions through every block: folded by closed form, by probing and absorbed, each is the same.

    python -m benchmarks.fold_sites [--sites 2000] [--full] [--seed 0] [--write]

Even, non-square, 1xK and Kx1 kernels, stride, dilation, groups, depthwise, a bias or none, padding wider and
narrower than the kernel or 'same', four padding modes; all weights, scales and statistics far from where they
begin. The blocks take turns, each as branches side by side and folded online.
"""

import collections
import random
import warnings
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple, get_args

import torch
from torch import nn

from benchmarks.bounds import Figure, command_line, one_sentence, report
from benchmarks.random_sites import Site, drawn_conv, image_for, randomise
from steps.errors import BadInput
from steps.reparam.branches import BLOCKS, branches_for
from steps.reparam.expand import Mode, expand
from steps.reparam.fold import absorb_norms, fold
from steps.reparam.geometry import geometry_of
from steps.reparam.probe import convolve, largest_error, probe

BOUND = 1e-12  # relative, float64: 1e-15 is usual, and a sum of a hundred products may lose more


class Found(NamedTuple):
    """The errors of one site, by how it was folded."""

    block: str
    mode: Mode
    conv: nn.Conv2d
    errors: dict[str, float]


def main() -> None:
    """Fold as many sites as asked for and report the worst of each way."""
    parser = command_line("fold_sites", __doc__)
    parser.add_argument("--sites", type=int, default=2000)
    parser.add_argument("--full", action="store_true", help="20,000 sites")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sites are small: a second thread waits longer than it works
    asked = 20_000 if arguments.full else arguments.sites
    with one_sentence("fold_sites"):
        if asked < 1:
            raise BadInput(f"--sites {asked}: the worst of them is looked for; give 1 or more.")
    found = list(folded_sites(asked, arguments.seed))
    print(f"{len(found)} sites: {dict(collections.Counter(f'{site.block} {site.mode}' for site in found))}")
    worst = {way: max(found, key=lambda site: site.errors[way]) for way in found[0].errors}
    for way, site in worst.items():
        print(f"  worst {way}: {site.errors[way]:.1e}, {site.block} {site.mode} of {site.conv}")
    report(
        [
            Figure("sites folded", len(found), "at least", asked),
            *(Figure(f"worst relative error, {way}", s.errors[way], "at most", BOUND) for way, s in worst.items()),
        ],
        arguments,
    )


def folded_sites(number: int, seed: int) -> Iterator[Found]:
    """Yield so many random sites that a block has branches for, with their errors."""
    draw = random.Random(seed)
    forms: list[tuple[str, Mode]] = list(product(BLOCKS, get_args(Mode)))
    done = 0
    while done < number:
        conv, (block, mode) = drawn_conv(draw), forms[done % len(forms)]
        if len(branches_for(block, geometry_of(conv))) > 1:
            done += 1
            yield Found(block, mode, conv, _errors(conv, block, mode, draw))


@torch.no_grad()
def _errors(conv: nn.Conv2d, block: str, mode: Mode, draw: random.Random) -> dict[str, float]:
    image_NCHW = image_for(conv, more=(draw.randint(0, 5), draw.randint(0, 5)))
    site = Site(conv).double()
    geometry = geometry_of(conv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's word on padding 'same' of an even kernel
        expand(site, block, init="standard", mode=mode, example_NCHW=image_NCHW)
        randomise(site.double(), seed=draw.getrandbits(32))
        plain = fold(site)
        absorbed = absorb_norms(plain, image_NCHW)
        expected_NOHW = site(image_NCHW)
        probed = probe(site.conv, geometry, image_NCHW)
        return {
            "closed form": largest_error(expected_NOHW, plain(image_NCHW)),
            "norm absorbed": largest_error(expected_NOHW, absorbed(image_NCHW)),
            "probing": largest_error(expected_NOHW, convolve(image_NCHW, geometry, probed)),
        }


if __name__ == "__main__":
    main()
