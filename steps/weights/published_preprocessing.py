"""What timm, torchvision and PaddleClas say of the preprocessing of their weights, known by the name of the file.

One network may have weights of several makers, each with its own mean: timm's inception_v3 has four. And one file
may serve two networks: torchvision's Inception-v3 brings its input from ImageNet's mean and standard deviation to
0.5 and 0.5 itself, timm's does not.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from steps.models.architectures import OWN_NAME, library_of

VD = ("resnet50_vd", "resnet50d")  # PaddleClas's name of the network and timm's
# A file's name, and the name of the folder that a tar of one file a variable unpacks to. No prefix would do: the
# weights of Fix_ResNet50_vd_ssld_v2_pretrained were fine-tuned at 320 pixels. 10w: of 100,000 classes.
OF_VD = tuple(f"ResNet50_vd{kind}_pretrained" for kind in ("", "_ssld", "_ssld_v2", "_10w"))
HASH = re.compile(r"-[0-9a-f]{8}$")  # timm and torchvision end a file's name with the beginning of its sha256
OF_PADDLE = {
    "size": 224,
    "resize": 256,
    "interpolation": "bilinear",  # OpenCV's there, which does not smooth what it shrinks; Pillow's here does
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
Colours = tuple[tuple[float, ...], tuple[float, ...]]


class Published(NamedTuple):
    """One file of weights: who names it how, the names that a file of it has, and its preprocessing."""

    title: str
    stems: tuple[str, ...]
    content: Mapping[str, Any]  # under timm's keys or our card's

    @property
    def colours(self) -> Colours:
        """Mean and standard deviation."""
        return tuple(self.content["mean"]), tuple(self.content["std"])


def preprocessing_of(arch: str, weights: Path) -> tuple[str, Mapping[str, Any]] | None:
    """Return what the library of `arch` says of this file, and how it calls it; None where it cannot be known.

    It is known where `arch` ends with timm's tag of the weights, such as `timm:resnet18.a1_in1k`, where the file
    has the name that it is published under, or that name with the hash of another version, if all of those agree.
    """
    known = tuple(_published(arch))
    tagged = [one for one in known if one.title == f"timm:{arch.rpartition(':')[2]}"]
    exact = [one for one in known if weights.stem in one.stems]
    versions = [one for one in known if HASH.search(weights.stem) and _bare(weights.stem) in map(_bare, one.stems)]
    for found in (tagged, exact, versions):
        if found and all(one.content == found[0].content for one in found):
            return found[0].title, found[0].content
    return None


def other_colours(arch: str, colours: Colours) -> dict[Colours, list[str]]:
    """Return mean and std of this network's published weights where they are others, and the titles of those."""
    others: dict[Colours, list[str]] = {}
    for one in _published(arch):
        if one.colours != colours:
            others.setdefault(one.colours, []).append(one.title)
    return others


def same_network(one: str, other: str) -> bool:
    """Whether two names, as train.arch has them, may be of one network; tags of weights say nothing of it.

    timm and torchvision have networks of one name, which are two; a user's own are what their whole names say.
    """
    if one == other:
        return True
    if all(OWN_NAME.fullmatch(name) and not library_of(name)[0] for name in (one, other)):
        return False
    (library, name), (another, its_name) = library_of(one), library_of(other)
    return (name == its_name or {name, its_name} == set(VD)) and ("" in (library, another) or library == another)


def _bare(stem: str) -> str:
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
            how = entry.transforms()
            content = {
                "size": how.crop_size[0],
                "resize": how.resize_size[0],
                "interpolation": how.interpolation.value,
                "mean": tuple(how.mean),
                "std": tuple(how.std),
            }
            yield Published(f"torchvision:{name} {entry.name}", (Path(entry.url).stem,), content)
