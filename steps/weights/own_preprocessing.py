"""The preprocessing that a file or folder of weights carries: in itself, or in a file beside it."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import yaml
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open

from steps.errors import BadInput
from steps.files import sha256
from steps.weights.loading import load_torch

Colour = tuple[float, float, float]
INSIDE = ("pretrained_cfg", "preprocessing", "preprocess")  # timm's name, our card's, and a plain one
BESIDE = ("preprocess.json", "card.json", "config.json")  # anyone's, our own artifact's, Hugging Face's
TELLING = {"mean", "std", "interpolation", "input_size", "size"}


@dataclass(frozen=True)
class StatedPreprocessing:
    """Some or all of a preprocessing; None is no wish. `interpolation` and `crop` may be ones we do not have."""

    size: int | None = None
    resize: int | None = None
    interpolation: str | None = None
    mean: Colour | None = None
    std: Colour | None = None
    crop: str = "center"


class Carried(NamedTuple):
    """What is said of the preprocessing, who says it, and how sure it is that these weights are meant."""

    wishes: StatedPreprocessing
    source: str
    arch: str | None = None  # of a file beside the weights: the network that it names
    shared: bool = False  # it may be meant of another file in the folder


def carried_by(weights: Path) -> Carried | None:
    """Return what a file or folder of weights says of its preprocessing; None: nothing.

    Looked at are the file's own metadata, `<weights>.yaml`, and preprocess.json, card.json or config.json beside
    the file (in the folder, where weights are one).
    """
    for source, content in _places(weights):
        inner = next((content[key] for key in INSIDE if isinstance(content.get(key), Mapping)), content)
        if TELLING & inner.keys():
            beside = source.name in BESIDE
            return Carried(
                wishes_of(inner, source),
                str(source),
                _network_of(content) if beside else None,
                beside and weights.is_file() and not _vouches(content, weights),
            )
    return None


def _network_of(content: Mapping[str, Any]) -> str | None:
    """Return the network that Hugging Face's config or our card is of, as it names it."""
    named = (content.get(key) for key in ("architecture", "arch"))
    return next((name for name in named if isinstance(name, str)), None)


def _vouches(content: Mapping[str, Any], weights: Path) -> bool:
    """Whether it is the card of this very file: it has the file's checksum."""
    files = content.get("files")
    said = files.get(weights.name) if isinstance(files, Mapping) else None
    return said is not None and said == sha256(weights)


class _Carried(BaseModel):
    """The keys of timm's pretrained_cfg and of our card that tell a preprocessing; others are let be."""

    mean: tuple[Annotated[float, Field(ge=0, le=1)], ...] | None = Field(None, min_length=3, max_length=3)
    std: tuple[Annotated[float, Field(gt=0, le=1)], ...] | None = Field(None, min_length=3, max_length=3)
    interpolation: str | None = None
    input_size: tuple[int, int, int] | None = None
    size: Annotated[int, Field(ge=8)] | None = None
    resize: Annotated[int, Field(ge=8)] | None = None
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = None
    crop_mode: str = "center"


def wishes_of(content: Mapping[str, Any], source: Path | str) -> StatedPreprocessing:
    """Return the wishes under timm's keys or our card's, or raise BadInput that names `source` and key."""
    try:
        carried = _Carried.model_validate(dict(content))
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{source}: {where} is no part of a preprocessing: {first['msg']}.") from fault
    size, crop = carried.size, carried.crop_mode
    if size is None and carried.input_size is not None:
        _, height, width = carried.input_size
        size, crop = (height, crop) if height == width else (None, f"{height} x {width}")
    resize = carried.resize
    if resize is None and size is not None and carried.crop_pct is not None:
        resize = math.floor(size / carried.crop_pct)  # as timm's create_transform rounds it
    mean, std = cast(Colour | None, carried.mean), cast(Colour | None, carried.std)
    return StatedPreprocessing(size, resize, carried.interpolation, mean, std, crop)


def _places(weights: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield each place that may tell, with the mapping that is there."""
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
    """Return what the file itself keeps under the names of INSIDE, and nothing of its tensors."""
    if weights.suffix == ".pdparams":
        return {}
    if weights.suffix != ".safetensors":
        content = load_torch(weights, "meta")
        found = {key: content[key] for key in INSIDE if key in content} if isinstance(content, dict) else {}
        return {key: value for key, value in found.items() if isinstance(value, Mapping)}
    try:
        with safe_open(weights, "pt") as file:
            said = file.metadata() or {}
        return {key: json.loads(said[key]) for key in INSIDE if key in said}
    except (SafetensorError, OSError, ValueError) as fault:
        raise BadInput(f"{weights}: its metadata cannot be read ({fault}).") from fault


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())  # JSON is YAML
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise BadInput(f"{path} is no YAML or JSON: {' '.join(str(fault).split())[:200]}") from fault
    return content if isinstance(content, Mapping) else {}
