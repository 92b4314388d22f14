"""A vision transformer's position embedding, brought to the grid of another input size.

Letters: T tokens, of which P come before the patches ([CLS], registers) and G are the grid's, D their width.
"""

import math
from collections.abc import Mapping

from torch import Tensor, nn

EMBEDDINGS = ("pos_embed", "pos_embedding")  # timm's name and torchvision's; 1 x T x D, T = P + G
NEEDS = 1_281_167  # images of ImageNet-1k: with fewer, and from fresh weights, a ViT stays behind a CNN


def has_positions(network: nn.Module) -> bool:
    """Whether the network adds a learnt embedding to each patch: whether it is a vision transformer."""
    return any(name.rpartition(".")[2] in EMBEDDINGS for name, _ in network.named_parameters())


def little_data(network: nn.Module, images: int, weights: bool) -> str | None:
    """Return what to say when a vision transformer would learn from fresh weights on few images, else None.

    It has to learn what a convolution is born with: Dosovitskiy et al., ICLR 2021, section 4.3 and figure 4.
    """
    if weights or images >= NEEDS or not has_positions(network):
        return None
    return (
        f"{type(network).__name__} is a vision transformer (patches, position embedding) with fresh weights, and "
        f"{images:,} images are few for it: it usually stays behind a CNN below about {NEEDS:,}. "
        "Give train.weights, or choose a CNN such as resnet18."
    )


def fitted(network: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors, position embeddings interpolated to the network's grid, and the names of those.

    The grids must be square on both sides. Prefix tokens stay as they are; the grid is resized bicubically with
    antialiasing, as timm does it. An embedding that cannot be fitted, such as one of another width, is left, to be
    counted as of another shape.
    """
    fitting, names = dict(tensors), []
    for name, parameter in network.named_parameters():
        given = tensors.get(name)
        if given is None or name.rpartition(".")[2] not in EMBEDDINGS or given.shape == parameter.shape:
            continue
        if given.ndim == parameter.ndim == 3 and given.shape[2] == parameter.shape[2]:
            prefix = _prefix(network, given.shape[1], parameter.shape[1])
            if prefix is not None:
                fitting[name] = _resized(given, prefix, math.isqrt(parameter.shape[1] - prefix))
                names.append(name)
    return fitting, tuple(names)


def _prefix(network: nn.Module, *tokens: int) -> int | None:
    """Return how many tokens before the grid have an embedding, or None where what is left is no square.

    timm's networks say so; for others it is the least number that leaves squares.
    """
    said = getattr(network, "num_prefix_tokens", None)
    likely = range(3) if said is None else (0 if getattr(network, "no_embed_class", False) else int(said),)
    return next((prefix for prefix in likely if all(_is_square(number - prefix) for number in tokens)), None)


def _is_square(places: int) -> bool:
    return places > 0 and math.isqrt(places) ** 2 == places


def _resized(embedding_1TD: Tensor, prefix: int, side: int) -> Tensor:
    from timm.layers.pos_embed import resample_abs_pos_embed  # two seconds of imports, for transformers alone

    resized: Tensor = resample_abs_pos_embed(embedding_1TD, [side, side], num_prefix_tokens=prefix)
    return resized
