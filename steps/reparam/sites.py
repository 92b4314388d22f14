"""Which tail belongs to which multi-branch block: by their places, so that expanded networks may be joined."""

from collections.abc import Iterator

from torch import nn

from steps.reparam.expand import MultiBranchConv
from steps.reparam.norms import NormTail


def blocks_and_tails(model: nn.Module) -> Iterator[tuple[str, MultiBranchConv, str, NormTail]]:
    """Yield each block with its tail, and the paths of both.

    Both know the site by its path in the network that was expanded. Where that network is a part of another one,
    what stands before that path is what both have in common.
    """
    tails = {name: m for name, m in model.named_modules() if isinstance(m, NormTail)}
    for path, block in model.named_modules():
        if isinstance(block, MultiBranchConv):
            mine = [name for name, tail in tails.items() if tail.site == block.site]
            around = path.removesuffix(block.site)
            inside = [name for name in mine if name.startswith(around)] if path.endswith(block.site) else mine
            assert inside, f"{path} has lost its tail"
            tail = min(inside, key=len)  # a longer one is of a network further inside
            yield path, block, tail, tails[tail]
