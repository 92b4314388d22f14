"""The preprocessing that timm, torchvision and PaddleClas publish for their weights, found by the file's name.

One network may have several published weights, each with another mean: timm's inception_v3 has four. One file may
also serve two networks: torchvision's Inception-v3 converts its input from ImageNet's mean and standard deviation
to 0.5 and 0.5 inside the network, timm's does not.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from steps.models.architectures import OWN_NAME, library_of

VD = ("resnet50_vd", "resnet50d")  # one network: the name in PaddleClas and the name in timm
# The names of files, and of folders with one file per variable. The names must match exactly, not by prefix: the
# weights of Fix_ResNet50_vd_ssld_v2_pretrained were fine-tuned at 320 pixels. 10w means 100,000 classes.
OF_VD = tuple(f"ResNet50_vd{kind}_pretrained" for kind in ("", "_ssld", "_ssld_v2", "_10w"))
HASH = re.compile(r"-[0-9a-f]{8}$")  # file names of timm and torchvision end with the beginning of the sha256
OF_PADDLE = {
    "size": 224,
    "resize": 256,
    "interpolation": "bilinear",  # PaddleClas uses OpenCV, without antialiasing; Pillow antialiases
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
Colours = tuple[tuple[float, ...], tuple[float, ...]]


class Published(NamedTuple):
    """One published weights file: its name in the library, its possible file names, and its preprocessing."""

    title: str
    stems: tuple[str, ...]
    content: Mapping[str, Any]  # with the keys of timm or of our card

    @property
    def colours(self) -> Colours:
        """Mean and standard deviation."""
        return tuple(self.content["mean"]), tuple(self.content["std"])


def preprocessing_of(arch: str, weights: Path) -> tuple[str, Mapping[str, Any]] | None:
    """Return title and preprocessing that the library of `arch` publishes for this file, or None if unknown.

    The file is identified in three ways: by timm's tag at the end of `arch`, such as `timm:resnet18.a1_in1k`; by a
    published file name; by a published file name with another hash, if all matching files have the same
    preprocessing.
    """
    known = tuple(_published(arch))
    tagged = [entry for entry in known if entry.title == f"timm:{arch.rpartition(':')[2]}"]
    exact = [entry for entry in known if weights.stem in entry.stems]
    versions = [
        entry
        for entry in known
        if HASH.search(weights.stem) and _without_hash(weights.stem) in map(_without_hash, entry.stems)
    ]
    for found in (tagged, exact, versions):
        if found and all(entry.content == found[0].content for entry in found):
            return found[0].title, found[0].content
    return None


def other_colours(arch: str, colours: Colours) -> dict[Colours, list[str]]:
    """Return (mean, std) -> titles, for the network's published weights with other values than `colours`."""
    titles: dict[Colours, list[str]] = {}
    for entry in _published(arch):
        if entry.colours != colours:
            titles.setdefault(entry.colours, []).append(entry.title)
    return titles


def same_network(first: str, second: str) -> bool:
    """Return whether two names of the form of train.arch may name one network; tags of weights are ignored.

    timm and torchvision have different networks under the same name. Users' networks are equal only if their whole
    names are equal.
    """
    if first == second:
        return True
    if all(OWN_NAME.fullmatch(name) and not library_of(name)[0] for name in (first, second)):
        return False
    (library_1, name_1), (library_2, name_2) = library_of(first), library_of(second)
    same_name = name_1 == name_2 or {name_1, name_2} == set(VD)
    return same_name and ("" in (library_1, library_2) or library_1 == library_2)


def _without_hash(stem: str) -> str:
    return HASH.sub("", stem)


def _published(arch: str) -> Iterator[Published]:
    library, name = library_of(arch)
    if name in VD:
        for stem in OF_VD:
            yield Published(f"PaddleClas:{stem}", (stem,), OF_PADDLE)
    if library == "timm":
        from timm.models import get_arch_pretrained_cfgs

        for title, config in get_arch_pretrained_cfgs(name).items():
            keys = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")
            urls = (
                (config.url, config.hf_hub_filename) if isinstance(config.url, str) else (config.hf_hub_filename,)
            )
            stems = (title, *(Path(url).stem for url in urls if url))
            yield Published(f"timm:{title}", stems, {key: getattr(config, key) for key in keys})
    elif library == "torchvision":
        from torchvision.models import get_model_weights

        for entry in get_model_weights(name):
            transform = entry.transforms()
            content = {
                "size": transform.crop_size[0],
                "resize": transform.resize_size[0],
                "interpolation": transform.interpolation.value,
                "mean": tuple(transform.mean),
                "std": tuple(transform.std),
            }
            yield Published(f"torchvision:{name} {entry.name}", (Path(entry.url).stem,), content)
