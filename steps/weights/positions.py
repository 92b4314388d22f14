"""Interpolate a vision transformer's position embedding to the grid of another input size.

Letters: T = P + G tokens, P of them before the patches ([CLS], registers) and G in the grid; D is their width.
"""

import math
import re
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.functional import interpolate

EMBEDDINGS = ("pos_embed", "pos_embedding")  # the names in timm and in torchvision; 1 x T x D
# EMBEDDINGS, and pos_embed1 (Visformer), patch_pos (TNT), rel_pos_h (MViT), relative_position_bias_table (Swin),
# attention_biases (LeViT). All depend on the input size; not all of them can be interpolated.
POSITIONS = re.compile(r"(^|_)pos(ition)?(_|$)|pos_embed|attention_biases")
NEEDS = 1_281_167  # images of ImageNet-1k: with fewer images and new weights, a ViT is less accurate than a CNN


def has_positions(network: nn.Module) -> bool:
    """Return whether the network has a position embedding, which shows that it is a vision transformer."""
    return any(name.rpartition(".")[2] in EMBEDDINGS for name, _ in network.named_parameters())


def little_data(network: nn.Module, images: int, weights: bool) -> str | None:
    """Return a warning if a vision transformer would train from new weights on few images, else None.

    A transformer must learn the locality that convolutions have by design: Dosovitskiy et al., ICLR 2021, section
    4.3 and figure 4.
    """
    if weights or images >= NEEDS or not has_positions(network):
        return None
    return (
        f"{type(network).__name__} is a vision transformer (patches, position embedding) with new weights, and "
        f"{images:,} images are few: below about {NEEDS:,} images such a network is usually less accurate than "
        "a CNN. Set train.weights, or choose a CNN such as resnet18."
    )


def fitted(network: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors with interpolated position embeddings, and the names of these embeddings.

    Embeddings are 1TD, or grids: 1DHW (PiT) or 1HWD (VOLO, SAM). The grids in the file and in the network must be
    square. Prefix tokens are not changed. The grid is resized bicubically with antialiasing, as in timm. An
    embedding that cannot be resized, for example because its width differs, is not changed; coverage counts its
    shape as other.
    """
    result, names = dict(tensors), []
    for name, parameter in network.named_parameters():
        embedding = tensors.get(name)
        if embedding is None or name.rpartition(".")[2] not in EMBEDDINGS or embedding.shape == parameter.shape:
            continue
        resized = _resized(network, embedding, parameter) if embedding.is_floating_point() else None
        if resized is not None:
            result[name] = resized
            names.append(name)
    return result, tuple(names)


def are_positions(name: str) -> bool:
    """Return whether a tensor of this name has positions: an embedding, or an attention bias by distance."""
    return POSITIONS.search(name.rpartition(".")[2]) is not None


def _resized(network: nn.Module, source: Tensor, target: Tensor) -> Tensor | None:
    """Return the embedding `source` at the grid of `target`, or None if the shapes allow no unique resize."""
    if source.ndim != target.ndim or not source.shape[0] == target.shape[0] == 1:
        return None
    if source.ndim == 3 and source.shape[2] == target.shape[2]:
        prefix = _prefix(network, source.shape[1], target.shape[1])
        return None if prefix is None else _tokens_resized(source, prefix, math.isqrt(target.shape[1] - prefix))
    if source.ndim == 4 and source.shape[1] == target.shape[1] and _are_square(source[0, 0], target[0, 0]):
        return _grid_resized(source, target.shape[3])
    if (
        source.ndim == 4
        and source.shape[3] == target.shape[3]
        and _are_square(source[0, ..., 0], target[0, ..., 0])
    ):
        return _grid_resized(source.permute(0, 3, 1, 2), target.shape[2]).permute(0, 2, 3, 1)
    return None


def _prefix(network: nn.Module, *tokens: int) -> int | None:
    """Return the number of embedded tokens before the grid, or None if no number leaves square grids.

    timm's networks state their number of prefix tokens, but some embed fewer (CaiT: none). So the stated number is
    tried first, then the smallest number that leaves squares.
    """
    stated = getattr(network, "num_prefix_tokens", None)
    first = () if stated is None else (0 if getattr(network, "no_embed_class", False) else int(stated),)
    usual = range(3)
    return next((n for n in (*first, *usual) if all(_is_square(number - n) for number in tokens)), None)


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


def _are_square(*grids: Tensor) -> bool:
    return all(grid.shape[0] == grid.shape[1] for grid in grids)


def _tokens_resized(embedding_1TD: Tensor, prefix: int, side: int) -> Tensor:
    from timm.layers.pos_embed import (
        resample_abs_pos_embed,
    )  # this import takes two seconds; only transformers need it

    resized: Tensor = resample_abs_pos_embed(embedding_1TD, [side, side], num_prefix_tokens=prefix)
    return resized


def _grid_resized(embedding_1DHW: Tensor, side: int) -> Tensor:
    resized_1DHW = interpolate(embedding_1DHW.float(), (side, side), mode="bicubic", antialias=True)
    return resized_1DHW.to(embedding_1DHW.dtype)
