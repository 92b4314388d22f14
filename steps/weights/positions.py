"""A vision transformer's position embedding, brought to the grid of another input size.

Letters: T tokens, of which P come before the patches ([CLS], registers) and G are the grid's, D their width.
"""

import math
import re
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import interpolate

EMBEDDINGS = ("pos_embed", "pos_embedding")  # timm's name and torchvision's; 1 x T x D, T = P + G
# Those, and pos_embed1 (Visformer), patch_pos (TNT), rel_pos_h (MViT), relative_position_bias_table (Swin),
# attention_biases (LeViT): they depend on the input size, and are not all to be interpolated.
POSITIONS = re.compile(r"(^|_)pos(ition)?(_|$)|pos_embed|attention_biases")
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

    Embeddings are 1TD, or grids: 1DHW (PiT) or 1HWD (VOLO, SAM). They must be square on both sides. Prefix
    tokens stay as they are; the grid is resized bicubically with antialiasing, as timm does it. An embedding that
    cannot be fitted, such as one of another width, is left, to be counted as of another shape.
    """
    fitting, names = dict(tensors), []
    for name, parameter in network.named_parameters():
        given = tensors.get(name)
        if given is None or name.rpartition(".")[2] not in EMBEDDINGS or given.shape == parameter.shape:
            continue
        resized = _resized(network, given, parameter) if given.is_floating_point() else None
        if resized is not None:
            fitting[name] = resized
            names.append(name)
    return fitting, tuple(names)


def are_positions(name: str) -> bool:
    """Whether a tensor of this name tells a network places: an embedding, or a bias of attention by distance."""
    return POSITIONS.search(name.rpartition(".")[2]) is not None


def _resized(network: nn.Module, given: Tensor, wanted: Tensor) -> Tensor | None:
    """Return the embedding at the wanted grid, or None where the shapes leave no doubt-free way."""
    if given.ndim != wanted.ndim or not given.shape[0] == wanted.shape[0] == 1:
        return None
    if given.ndim == 3 and given.shape[2] == wanted.shape[2]:
        prefix = _prefix(network, given.shape[1], wanted.shape[1])
        return None if prefix is None else _tokens_resized(given, prefix, math.isqrt(wanted.shape[1] - prefix))
    if given.ndim == 4 and given.shape[1] == wanted.shape[1] and _are_square(given[0, 0], wanted[0, 0]):
        return _grid_resized(given, wanted.shape[3])
    if given.ndim == 4 and given.shape[3] == wanted.shape[3] and _are_square(given[0, ..., 0], wanted[0, ..., 0]):
        return _grid_resized(given.permute(0, 3, 1, 2), wanted.shape[2]).permute(0, 2, 3, 1)
    return None


def _prefix(network: nn.Module, *tokens: int) -> int | None:
    """Return how many tokens before the grid have an embedding, or None where what is left is no square.

    timm's networks say how many tokens they have, though some embed fewer (CaiT none); then, and for others, it is
    the least number that leaves squares.
    """
    said = getattr(network, "num_prefix_tokens", None)
    likely = () if said is None else (0 if getattr(network, "no_embed_class", False) else int(said),)
    usual = range(3)
    return next((n for n in (*likely, *usual) if all(_is_square(number - n) for number in tokens)), None)


def _is_square(places: int) -> bool:
    return places > 0 and math.isqrt(places) ** 2 == places


def _are_square(*grids: Tensor) -> bool:
    return all(grid.shape[0] == grid.shape[1] for grid in grids)


def _tokens_resized(embedding_1TD: Tensor, prefix: int, side: int) -> Tensor:
    from timm.layers.pos_embed import resample_abs_pos_embed  # two seconds of imports, for transformers alone

    resized: Tensor = resample_abs_pos_embed(embedding_1TD, [side, side], num_prefix_tokens=prefix)
    return resized


def _grid_resized(embedding_1DHW: Tensor, side: int) -> Tensor:
    resized_1DHW = interpolate(embedding_1DHW.float(), (side, side), mode="bicubic", antialias=True)
    return resized_1DHW.to(embedding_1DHW.dtype)
