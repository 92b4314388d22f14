"""Random convolutions through every block: folded by closed form, by probing and absorbed, each is the same.

    python -m benchmarks.fold_sites [--sites 2000] [--full] [--seed 0]

Even, non-square, 1xK and Kx1 kernels, stride, dilation, groups, depthwise, a bias or none, padding wider and
narrower than the kernel or 'same', four padding modes; norms far from their defaults. The blocks take turns.
"""

import argparse
import collections
import random
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.bounds import Figure, report
from steps.reparam.branches import BLOCKS, branches_for
from steps.reparam.expand import expand
from steps.reparam.fold import absorb_norms, fold
from steps.reparam.geometry import PadMode, geometry_of
from steps.reparam.probe import convolve, largest_error, probe

BOUND = 1e-12  # relative, float64: 1e-15 is usual, and a sum of a hundred products may lose more
PAD_MODES: tuple[PadMode, ...] = ("zeros", "reflect", "replicate", "circular")


class Site(nn.Module):
    """One convolution and its norm."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv: nn.Module = conv
        self.norm = nn.BatchNorm2d(conv.out_channels, eps=1e-3)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return the normed convolution."""
        normed: Tensor = self.norm(self.conv(image_NCHW))
        return normed


class Found(NamedTuple):
    """The errors of one site, by how it was folded."""

    block: str
    conv: nn.Conv2d
    errors: dict[str, float]


def main() -> None:
    """Fold as many sites as asked for and report the worst of each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=2000)
    parser.add_argument("--full", action="store_true", help="20,000 sites")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sites are small: a second thread waits longer than it works
    wanted = 20_000 if arguments.full else arguments.sites
    found = list(folded_sites(wanted, arguments.seed))
    print(f"{len(found)} sites: {dict(collections.Counter(site.block for site in found))}")
    worst = {way: max(found, key=lambda site: site.errors[way]) for way in found[0].errors}
    for way, site in worst.items():
        print(f"  worst {way}: {site.errors[way]:.1e}, {site.block} of {site.conv}")
    report(
        [
            Figure("sites folded", len(found), "at least", wanted),
            *(Figure(f"worst relative error, {way}", s.errors[way], "at most", BOUND) for way, s in worst.items()),
        ]
    )


def folded_sites(number: int, seed: int) -> Iterator[Found]:
    """Yield so many random sites that a block has branches for, with their errors."""
    draw = random.Random(seed)
    blocks = list(BLOCKS)
    done = 0
    while done < number:
        conv, block = drawn_conv(draw), blocks[done % len(blocks)]
        if len(branches_for(block, geometry_of(conv))) > 1:
            done += 1
            yield Found(block, conv, _errors(conv, block, draw))


def drawn_conv(draw: random.Random) -> nn.Conv2d:
    """Return a random convolution in float64."""
    groups = draw.choice([1, 1, 2, 4])
    inputs = groups * draw.choice([1, 1, 2, 3])
    outputs = draw.choice([inputs, groups * draw.randint(1, 3)])
    kernel = (draw.randint(1, 5), draw.randint(1, 5))
    dilation, stride = ((draw.randint(1, 3), draw.randint(1, 3)) for _ in range(2))
    padding: tuple[int, int] | str = (draw.randint(0, 4), draw.randint(0, 4))
    if draw.random() < 0.2:
        padding, stride = "same", (1, 1)
    torch.manual_seed(draw.getrandbits(32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's word on padding 'same' of an even kernel
        return nn.Conv2d(
            inputs,
            outputs,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias=draw.random() < 0.5,
            padding_mode=draw.choice(PAD_MODES),
            dtype=torch.float64,
        )


@torch.no_grad()
def _errors(conv: nn.Conv2d, block: str, draw: random.Random) -> dict[str, float]:
    image_NCHW = _image_for(conv, draw)
    site = Site(conv).double()
    geometry = geometry_of(conv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        expand(site, block, init="standard", example_NCHW=image_NCHW)
        _as_after_training(site)
        plain = fold(site)
        absorbed = absorb_norms(plain, image_NCHW)
        expected_NOHW = site(image_NCHW)
        probed = probe(site.conv, geometry, image_NCHW)
        return {
            "closed form": largest_error(expected_NOHW, plain(image_NCHW)),
            "norm absorbed": largest_error(expected_NOHW, absorbed(image_NCHW)),
            "probing": largest_error(expected_NOHW, convolve(image_NCHW, geometry, probed)),
        }


def _as_after_training(site: Site) -> None:
    """Give the norms of all branches statistics, gamma and beta far from their defaults."""
    site.double().eval()
    for norm in site.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.01, 4)
            norm.weight.uniform_(-1.5, 1.5)
            norm.bias.normal_(0, 0.3)


def _image_for(conv: nn.Conv2d, draw: random.Random) -> Tensor:
    """Return images of any size that the window, and a border that reflects, allow."""
    geometry = geometry_of(conv)
    height, width = (
        max((kernel - 1) * dilation + 1, max(pads) + 1) + draw.randint(0, 5)
        for kernel, dilation, pads in zip(
            geometry.kernel, geometry.dilation, (geometry.pads[2:], geometry.pads[:2]), strict=True
        )
    )
    return torch.randn(2, conv.in_channels, height, width, dtype=torch.float64)


if __name__ == "__main__":
    main()
