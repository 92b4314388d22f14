"""Print the plan of an expansion: the branches of each convolution, or the reason why it has no block.

`python -m tools.plan resnet18 --block acb` builds the network without weights and writes nothing.
"""

import argparse
import sys
from typing import get_args

import torch

from steps.errors import BadInput, StepError
from steps.models.architectures import create
from steps.progress import say
from steps.reparam.branches import BLOCKS
from steps.reparam.expand import Mode, plan_expansion
from steps.reparam.plan import ExpansionPlan


def plan(arch: str, block: str, where: str, size: int, mode: Mode = "branch") -> ExpansionPlan:
    """Return the plan for this architecture on images of `size` pixels; raise BadInput for an unknown name."""
    if size < 1:
        raise BadInput(f"--size {size}: images have at least one pixel.")
    network = create(arch, class_num=10, size=size).eval()
    return plan_expansion(network, block, where, torch.zeros(1, 3, size, size), mode)


def main() -> None:
    """Print the plan, one line for each convolution, and the number of expanded convolutions."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arch", metavar="ARCH", help="as train.arch in params.yaml")
    parser.add_argument("--block", choices=sorted(BLOCKS), default="repvgg")
    parser.add_argument("--where", default="all", help="as train.expand.where (all)")
    parser.add_argument(
        "--mode",
        choices=get_args(Mode),
        default="branch",
        help="as train.expand.mode (branch): the plan tries each block in this mode, and skips a block that fails",
    )
    parser.add_argument("--size", type=int, default=224, metavar="PIXELS", help="of the images (224)")
    flags = parser.parse_args()
    try:
        planned = plan(flags.arch, flags.block, flags.where, flags.size, flags.mode)
    except StepError as error:
        say(f"plan: {error}")
        sys.exit(error.exit_code)
    print("\n".join(planned.lines()))
    print(f"\n{len(planned.expanded)} of {len(planned.sites)} convolutions train as '{flags.block}' blocks")


if __name__ == "__main__":
    main()
