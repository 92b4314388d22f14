"""Which tail belongs to which multi-branch block, in whatever network both have come to be."""

from collections.abc import Iterator

from torch import nn

from steps.errors import BadInput
from steps.reparam.expand import MultiBranchConv
from steps.reparam.norms import NormTail


def blocks_and_tails(model: nn.Module) -> Iterator[tuple[str, MultiBranchConv, str, NormTail]]:
    """Yield each block with its tail, and the paths of both; raises BadInput where a block has lost its tail."""
    tails = {id(tail.site): (name, tail) for name, tail in model.named_modules() if isinstance(tail, NormTail)}
    for path, block in model.named_modules():
        if isinstance(block, MultiBranchConv):
            if id(block.site) not in tails:
                raise BadInput(
                    f"{path} was expanded as {block.site.name}, and what stood at its norm's place is not in this "
                    "network; take both along, in one copy."
                )
            yield path, block, *tails[id(block.site)]
