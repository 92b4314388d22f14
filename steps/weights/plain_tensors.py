"""Check that the tensors of a file are plain, finite numbers, and that the file has all of the numbers."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from steps.errors import BadInput, Refused

DTYPES = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
}  # fmt: skip


def refuse_odd_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise BadInput for a tensor that is not stored as plain numbers, Refused for numbers that are not finite."""
    for key, tensor in tensors.items():
        oddity = _oddity(tensor)
        if oddity is not None:
            raise BadInput(
                f"{path}: {key} {oddity}; save every tensor as plain numbers, such as "
                "{name: tensor.float().cpu().contiguous() for name, tensor in network.state_dict().items()}."
            )
    bad = [key for key, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise Refused(
            f"{path} has numbers that are not finite in {len(bad)} of its tensors, the first {bad[0]}; "
            "use the weights of an earlier epoch."
        )


def _oddity(tensor: Tensor) -> str | None:
    """Return why a tensor is not plain numbers, or None."""
    if tensor.is_quantized:
        return f"is quantised ({_name(tensor.dtype)})"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"is no dense tensor ({'nested' if tensor.is_nested else _name(tensor.layout)})"
    if tensor.is_meta:
        return "has a shape and no numbers (it was saved from the meta device)"
    if tensor.dtype not in DTYPES:
        return f"has the type {_name(tensor.dtype)}"
    if tensor.nbytes > tensor.untyped_storage().nbytes():  # expanded: few numbers, repeated
        return f"claims {tensor.numel():,} numbers, and the file has fewer"
    return None


def _name(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")
