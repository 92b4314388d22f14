"""Find the preprocessing that pretrained weights were trained with, and compare it with params.yaml.

The preprocessing comes from the weights file, from a file beside it, or from the library that published a file of
this name. A wrong mean and standard deviation costs ten points of accuracy. No comparison of forms detects that,
because all forms have the same preprocessing.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

from steps.errors import BadInput, Refused
from steps.progress import say
from steps.reports.card import Interpolation, Preprocessing
from steps.reports.train import TrainReport
from steps.weights.own_preprocessing import FoundPreprocessing, StatedPreprocessing, found_with, stated_in
from steps.weights.published_preprocessing import other_colours, preprocessing_of, same_network

Adoption = Literal["adopt", "override"]
KEYS = {"size": "side"}  # the keys with another name in params.yaml


class ResolvedPreprocessing(NamedTuple):
    """The preprocessing of the network, and the file or library that states it; None if only params state it."""

    preprocessing: Preprocessing
    source: str | None


DEFAULTS = Preprocessing(
    size=32, resize=32, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def resolve_preprocessing(
    stated: StatedPreprocessing, weights: Path | None, of_weights: Adoption, arch: str
) -> ResolvedPreprocessing:
    """Return the preprocessing: params.yaml's values, else the values of the weights, else the defaults.

    `arch` is the network that the weights are for. Raises Refused if params.yaml states another value than the
    weights, unless `of_weights` is "override". Raises Refused also if the weights need a resize or a crop that is
    not supported here and params.yaml states no other.
    """
    if weights is not None and not weights.exists():
        raise BadInput(f"train.weights: {weights} is not there.")
    found = None if weights is None else _find(stated, weights, arch)
    of_file, source = (found.stated, found.source) if found else (StatedPreprocessing(), None)
    size = stated.size or of_file.size or DEFAULTS.size
    if of_file.resize is not None and of_file.size is not None:  # keep the weights' ratio of resize to crop
        of_file = StatedPreprocessing(
            **{**vars(of_file), "resize": math.floor(size * of_file.resize / of_file.size)}
        )
    if source is not None:
        _refuse_conflicts(stated, of_file, source, of_weights)
    resolved = Preprocessing(
        size=size,
        resize=stated.resize or of_file.resize or size,
        interpolation=cast(Interpolation, stated.interpolation or of_file.interpolation or DEFAULTS.interpolation),
        mean=stated.mean or of_file.mean or DEFAULTS.mean,
        std=stated.std or of_file.std or DEFAULTS.std,
    )
    if resolved.resize < size:
        raise BadInput(
            f"train.preprocess: resize {resolved.resize} is less than side {size}: the crop would not fit."
        )
    if weights is not None:
        origin = f"{source}" if source else f"params.yaml and its defaults, because {weights} has none"
        say(f"train: the preprocessing is from {origin}: {_summary(resolved)}")
        if source is None and None in (stated.mean, stated.std):
            _say_other_colours(arch, resolved)
    return ResolvedPreprocessing(resolved, source)


def _find(stated: StatedPreprocessing, weights: Path, arch: str) -> FoundPreprocessing | None:
    """Return the preprocessing that comes with the weights, else the library's for weights of this name.

    A file beside the weights counts only if nothing contradicts it. If something contradicts the file and
    params.yaml does not state all keys of the preprocessing, BadInput is raised: a guess could be wrong.
    """
    found = found_with(weights)
    if found is None:
        return _find_published(arch, weights)
    other_network = found.arch is not None and not same_network(found.arch, arch)
    if not found.shared and not other_network:
        return found
    published = _find_published(arch, weights)
    differing = _differing(found.stated, published.stated) if published else ()
    if published and not differing:
        return published  # both agree, and the library states all keys
    if published is None and not other_network:
        return found
    contradiction = "; ".join(
        _contradictions(found, published, differing, weights, arch if other_network else None)
    )
    if None in vars(stated).values():
        raise BadInput(f"{contradiction}. {_remedy(weights, other_network)}")
    say(f"train: {contradiction}. train.preprocess states all keys, so {found.source} does not count.")
    return published


def _find_published(arch: str, weights: Path) -> FoundPreprocessing | None:
    """Return the preprocessing that the network's library publishes for weights of this name, or None."""
    known = preprocessing_of(arch, weights)
    return None if known is None else FoundPreprocessing(stated_in(known[1], known[0]), known[0])


def _differing(first: StatedPreprocessing, second: StatedPreprocessing) -> tuple[str, ...]:
    """Return the keys that both state with different values."""
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in vars(first)}
    return tuple(name for name, (a, b) in pairs.items() if None not in (a, b) and not _same(a, b))


def _contradictions(
    beside: FoundPreprocessing,
    published: FoundPreprocessing | None,
    differing: tuple[str, ...],
    weights: Path,
    arch: str | None,
) -> Iterator[str]:
    """Yield what contradicts the file beside the weights; `arch` is train.arch if the file names another."""
    if arch:
        yield f"{beside.source} is of {beside.arch}, and train.arch is {arch}"
    if published:
        of_file, of_library = (
            ", ".join(f"{KEYS.get(key, key)} {_plain(getattr(found.stated, key))}" for key in differing)
            for found in (beside, published)
        )
        yield f"{beside.source} says {of_file}, but {weights.name} is known as {published.source}: {of_library}"


def _remedy(weights: Path, other_network: bool) -> str:
    train_arch = f"set train.arch to the network of {weights.name}, or " if other_network else ""
    return (
        f"The preprocessing of {weights} is not certain: {train_arch}put {weights.name} into a folder of its "
        f"own, or write the preprocessing into {weights.name}.yaml beside it, or state side, resize, "
        "interpolation, mean and std under train.preprocess."
    )


def _say_other_colours(arch: str, resolved: Preprocessing) -> None:
    """Say which published weights of the network have another mean and std, if nobody stated mean and std."""
    for (mean, std), titles in other_colours(arch, (resolved.mean, resolved.std)).items():
        say(
            f"train: this mean and std are assumed; {', '.join(titles[:3])} were made with mean {_plain(mean)}, "
            f"std {_plain(std)}. If these are your weights, set train.preprocess.mean and std to these values."
        )


def _refuse_conflicts(
    stated: StatedPreprocessing, of_file: StatedPreprocessing, source: str, of_weights: Adoption
) -> None:
    """Raise Refused for values that differ from those of the weights, and for unsupported resizes and crops."""
    overrides = of_weights == "override"
    pairs = {name: (getattr(stated, name), getattr(of_file, name)) for name in vars(DEFAULTS)}
    faults = [
        f"train.preprocess.{KEYS.get(name, name)} is {_plain(ours)}, but {source} says {_plain(theirs)}"
        for name, (ours, theirs) in pairs.items()
        if not overrides and None not in (ours, theirs) and not _same(ours, theirs)
    ]
    known = get_args(Interpolation)
    if of_file.interpolation not in (None, *known) and not (overrides and stated.interpolation):
        faults.append(f"{source} resizes with '{of_file.interpolation}'; supported are {' and '.join(known)}")
    if of_file.crop != "center" and not (overrides and stated.resize and stated.size):
        faults.append(f"{source} crops '{of_file.crop}'; only a square centre crop is supported")
    if faults:
        raise Refused(
            f"{'; '.join(faults)}. Set the key to null to use the value of the weights, or state all values that "
            "should differ and set train.preprocess.of_weights: override.",
            TrainReport(),
        )


def _same(ours: Any, theirs: Any) -> bool:
    """Return whether two values are equal up to rounding to three decimals; one level of 256 is 0.004."""
    if isinstance(ours, tuple):
        return all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(ours, theirs, strict=True))
    return bool(ours == theirs)


def _plain(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _summary(resolved: Preprocessing) -> str:
    return (
        f"short side to {resolved.resize} ({resolved.interpolation}), centre {resolved.size}, "
        f"mean {_plain(resolved.mean)}, std {_plain(resolved.std)}."
    )
