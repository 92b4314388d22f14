"""Read the preprocessing that comes with a weights file or folder: in the file, or in another file beside it."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open

from steps.errors import BadInput
from steps.files import sha256
from steps.weights.loading import load_torch
from steps.yaml_text import read_yaml

Colour = tuple[float, float, float]
INSIDE = ("pretrained_cfg", "preprocessing", "preprocess")  # the key in timm, in our card, and a plain key
BESIDE = (
    "preprocess.json",
    "card.json",
    "config.json",
)  # a user's file, our card, Hugging Face's config
TELLING = {"mean", "std", "interpolation", "input_size", "size"}  # one of these keys shows a preprocessing


@dataclass(frozen=True)
class StatedPreprocessing:
    """Some or all keys of a preprocessing; None is not stated. `interpolation` and `crop` may be unsupported."""

    size: int | None = None
    resize: int | None = None
    interpolation: str | None = None
    mean: Colour | None = None
    std: Colour | None = None
    crop: str = "center"


class FoundPreprocessing(NamedTuple):
    """The preprocessing found for some weights, its source, and whether the source may describe other weights."""

    stated: StatedPreprocessing
    source: str
    arch: str | None = None  # the network that a file beside the weights names
    shared: bool = False  # the file may describe another weights file in the folder


def found_with(weights: Path) -> FoundPreprocessing | None:
    """Return the preprocessing that comes with a weights file or folder, or None.

    Sources, in this order: the file's own metadata, `<weights>.yaml`, and preprocess.json, card.json or
    config.json beside the file (inside the folder, if the weights are a folder).
    """
    for source, content in _sources(weights):
        inner = next((content[key] for key in INSIDE if isinstance(content.get(key), Mapping)), content)
        if TELLING & inner.keys():
            beside = source.name in BESIDE
            return FoundPreprocessing(
                stated_in(inner, source),
                str(source),
                _network_of(content) if beside else None,
                beside and weights.is_file() and not _has_checksum_of(content, weights),
            )
    return None


def _network_of(content: Mapping[str, Any]) -> str | None:
    """Return the name of the network in Hugging Face's config or in our card, or None."""
    values = (content.get(key) for key in ("architecture", "arch"))
    return next((name for name in values if isinstance(name, str)), None)


def _has_checksum_of(content: Mapping[str, Any], weights: Path) -> bool:
    """Return whether the content is the card of exactly this file: it has the file's checksum."""
    files = content.get("files")
    checksum = files.get(weights.name) if isinstance(files, Mapping) else None
    return checksum is not None and checksum == sha256(weights)


class _Keys(BaseModel):
    """The keys of timm's pretrained_cfg and of our card for the preprocessing; other keys are ignored."""

    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = Field(None, min_length=3, max_length=3)
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(None, min_length=3, max_length=3)
    interpolation: str | None = None
    input_size: tuple[int, int, int] | None = None
    size: Annotated[int, Field(ge=8)] | None = None
    resize: Annotated[int, Field(ge=8)] | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    crop_mode: str = "center"


def stated_in(content: Mapping[str, Any], source: Path | str) -> StatedPreprocessing:
    """Return the preprocessing under the keys of timm or of our card; raise BadInput with `source` and key."""
    try:
        keys = _Keys.model_validate(dict(content))
    except ValidationError as fault:
        first = fault.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise BadInput(f"{source}: the value of {key} is not valid: {first['msg']}.") from fault
    size, crop = keys.size, keys.crop_mode
    if size is None and keys.input_size is not None:
        _, height, width = keys.input_size
        size, crop = (height, crop) if height == width else (None, f"{height} x {width}")
    resize = keys.resize
    if resize is None and size is not None and keys.crop_pct is not None:
        resize = math.floor(size / keys.crop_pct)  # timm's create_transform rounds like this
    mean, std = cast(Colour | None, keys.mean), cast(Colour | None, keys.std)
    return StatedPreprocessing(size, resize, keys.interpolation, mean, std, crop)


def _sources(weights: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield each file that may have a preprocessing, with its content."""
    if weights.is_file():
        yield weights, _metadata(weights)
    for path in (weights.with_name(f"{weights.name}.yaml"), weights.with_suffix(".yaml")):
        if path.is_file():
            yield path, _mapping(path)
    folder = weights if weights.is_dir() else weights.parent
    for name in BESIDE:
        if (folder / name).is_file():
            yield folder / name, _mapping(folder / name)


def _metadata(weights: Path) -> Mapping[str, Any]:
    """Return the values under the keys of INSIDE in the weights file itself, without reading its tensors."""
    if weights.suffix == ".pdparams":
        return {}
    if weights.suffix != ".safetensors":
        content = load_torch(weights, "meta")
        found = {key: content[key] for key in INSIDE if key in content} if isinstance(content, dict) else {}
        return {key: value for key, value in found.items() if isinstance(value, Mapping)}
    try:
        with safe_open(weights, "pt") as file:
            metadata = file.metadata() or {}
        return {key: json.loads(metadata[key]) for key in INSIDE if key in metadata}
    except (SafetensorError, OSError, ValueError) as fault:
        raise BadInput(f"{weights}: its metadata cannot be read ({fault}).") from fault


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_bytes()) if path.suffix == ".json" else read_yaml(path)
    except (ValueError, RecursionError):  # YAML in a file called .json, or the fault with its line
        content = read_yaml(path)
    return content if isinstance(content, Mapping) else {}
