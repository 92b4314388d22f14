"""Match each multi-branch block with the tail of its norm, also after the network was copied or joined."""

from collections.abc import Iterator

from torch import nn

from steps.errors import BadInput
from steps.reparam.expand import MultiBranchConv
from steps.reparam.norms import NormTail


def blocks_and_tails(model: nn.Module) -> Iterator[tuple[str, MultiBranchConv, str, NormTail]]:
    """Yield (path, block, path of its tail, tail) for each block; raise BadInput if a block has no tail."""
    tails = {id(tail.site): (name, tail) for name, tail in model.named_modules() if isinstance(tail, NormTail)}
    for path, block in model.named_modules():
        if isinstance(block, MultiBranchConv):
            if id(block.site) not in tails:
                raise BadInput(
                    f"{path} was expanded as {block.site.name}, and the replacement of its norm is not in this "
                    "network; copy the block and that replacement together, in one copy."
                )
            yield path, block, *tails[id(block.site)]
