"""The preprocessing that weights were made with: found, and held against what params state.

It is looked for in the weights and beside them, then in what their library says of a file of their name.

A wrong mean and standard deviation costs ten points of accuracy, and no comparison of forms can see it: every
form shares it.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast, get_args

from steps.errors import BadInput, Refused
from steps.progress import say
from steps.reports.card import Interpolation, Preprocessing
from steps.reports.train import TrainReport
from steps.weights.own_preprocessing import Carried, StatedPreprocessing, carried_by, wishes_of
from steps.weights.published_preprocessing import other_colours, preprocessing_of, same_network

Adoption = Literal["adopt", "override"]
KEYS = {"size": "side"}  # what params.yaml calls otherwise


class ResolvedPreprocessing(NamedTuple):
    """What the network will see, and the file or library that said so; None where params alone did."""

    preprocessing: Preprocessing
    source: str | None


DEFAULTS = Preprocessing(
    size=32, resize=32, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def resolve_preprocessing(
    stated: StatedPreprocessing, weights: Path | None, of_weights: Adoption, arch: str
) -> ResolvedPreprocessing:
    """Return the preprocessing: what params state, else what is known of the weights, else the defaults.

    `arch` is the network that the weights are for. Raises Refused where params state another value than the
    weights were made with, unless `of_weights` is "override", and where what they were made with cannot be done
    here and params state nothing else.
    """
    if weights is not None and not weights.exists():
        raise BadInput(f"train.weights: {weights} is not there.")
    found = None if weights is None else _found(stated, weights, arch)
    own, source = (found.wishes, found.source) if found else (StatedPreprocessing(), None)
    size = stated.size or own.size or DEFAULTS.size
    if own.resize is not None and own.size is not None:  # the share that the crop keeps is the weights'
        own = StatedPreprocessing(**{**vars(own), "resize": math.floor(size * own.resize / own.size)})
    if source is not None:
        _refuse_conflicts(stated, own, source, of_weights)
    settled = Preprocessing(
        size=size,
        resize=stated.resize or own.resize or size,
        interpolation=cast(Interpolation, stated.interpolation or own.interpolation or DEFAULTS.interpolation),
        mean=stated.mean or own.mean or DEFAULTS.mean,
        std=stated.std or own.std or DEFAULTS.std,
    )
    if settled.resize < size:
        raise BadInput(
            f"train.preprocess: resize {settled.resize} is less than side {size}: nothing to crop from."
        )
    if weights is not None:
        whose = f"of {source}" if source else f"stated in params.yaml, or its default: {weights} carries none"
        say(f"train: the preprocessing is the one {whose}: {_said(settled)}")
        if source is None and None in (stated.mean, stated.std):
            _say_other_colours(arch, settled)
    return ResolvedPreprocessing(settled, source)


def _found(stated: StatedPreprocessing, weights: Path, arch: str) -> Carried | None:
    """Return what is known of the weights: what they carry, else what their library says of their name.

    A file beside them counts where nothing speaks against it. Where something does, and params do not state all
    of the preprocessing, it is not guessed who is right: BadInput is raised.
    """
    carried = carried_by(weights)
    if carried is None:
        return _by_name(arch, weights)
    stranger = carried.arch is not None and not same_network(carried.arch, arch)
    if not carried.shared and not stranger:
        return carried
    named = _by_name(arch, weights)
    differing = _differing(carried.wishes, named.wishes) if named else ()
    if named and not differing:
        return named  # they agree, and a library leaves nothing out
    if named is None and not stranger:
        return carried
    doubt = "; ".join(_against(carried, named, differing, weights, arch if stranger else None))
    if None in vars(stated).values():
        raise BadInput(f"{doubt}. {_remedy(weights, stranger)}")
    say(f"train: {doubt}. train.preprocess states all of it, so {carried.source} does not count.")
    return named


def _by_name(arch: str, weights: Path) -> Carried | None:
    """Return what the network's library says of weights of this name, and what it calls them."""
    known = preprocessing_of(arch, weights)
    return None if known is None else Carried(wishes_of(known[1], known[0]), known[0])


def _differing(theirs: StatedPreprocessing, published: StatedPreprocessing) -> tuple[str, ...]:
    """Return the keys of which both say something, and not the same."""
    pairs = {name: (getattr(theirs, name), getattr(published, name)) for name in vars(theirs)}
    return tuple(name for name, (a, b) in pairs.items() if None not in (a, b) and not _same(a, b))


def _against(
    beside: Carried, named: Carried | None, differing: tuple[str, ...], weights: Path, trained: str | None
) -> Iterator[str]:
    """Yield what speaks against the file beside the weights; `trained` is train.arch where that names another."""
    if trained:
        yield f"{beside.source} is of {beside.arch}, and train.arch is {trained}"
    if named:
        theirs, published = (
            ", ".join(f"{KEYS.get(key, key)} {_plain(getattr(one.wishes, key))}" for key in differing)
            for one in (beside, named)
        )
        yield f"{beside.source} says {theirs}, but {weights.name} is known as {named.source}: {published}"


def _remedy(weights: Path, stranger: bool) -> str:
    train_arch = f"set train.arch to the network that {weights.name} is of, or " if stranger else ""
    return (
        f"It is not guessed which preprocessing {weights} was made with: {train_arch}put it into a folder of its "
        f"own, or write its preprocessing into {weights.name}.yaml beside it, or state side, resize, "
        "interpolation, mean and std under train.preprocess."
    )


def _say_other_colours(arch: str, settled: Preprocessing) -> None:
    """Say where a mean and std that nobody stated are not those of the network's published weights."""
    for (mean, std), titles in other_colours(arch, (settled.mean, settled.std)).items():
        say(
            f"train: that mean and std are assumed; {', '.join(titles[:3])} were made with mean {_plain(mean)}, "
            f"std {_plain(std)}. Are these such weights, state them as train.preprocess.mean and std."
        )


def _refuse_conflicts(
    stated: StatedPreprocessing, own: StatedPreprocessing, source: str, of_weights: Adoption
) -> None:
    """Refuse values that are not the weights' own, and ways of resizing and cropping that we do not have."""
    overrides = of_weights == "override"
    wishes = {name: (getattr(stated, name), getattr(own, name)) for name in vars(DEFAULTS)}
    faults = [
        f"train.preprocess.{KEYS.get(name, name)} is {_plain(ours)}, but {source} says {_plain(theirs)}"
        for name, (ours, theirs) in wishes.items()
        if not overrides and None not in (ours, theirs) and not _same(ours, theirs)
    ]
    known = get_args(Interpolation)
    if own.interpolation not in (None, *known) and not (overrides and stated.interpolation):
        faults.append(f"{source} resizes with '{own.interpolation}', and here there is {' and '.join(known)}")
    if own.crop != "center" and not (overrides and stated.resize and stated.size):
        faults.append(f"{source} crops '{own.crop}', and here the centre, to a square, is cropped")
    if faults:
        raise Refused(
            f"{'; '.join(faults)}. Leave the key null to adopt what the weights were made with, or state all that "
            "you want otherwise and set train.preprocess.of_weights: override.",
            TrainReport(),
        )


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two values are one, written with fewer digits perhaps: a level of 256 is 0.004."""
    if isinstance(ours, tuple):
        return all(math.isclose(a, b, abs_tol=1e-3) for a, b in zip(ours, theirs, strict=True))
    return bool(ours == theirs)


def _plain(value: Any) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _said(how: Preprocessing) -> str:
    return (
        f"short side to {how.resize} ({how.interpolation}), centre {how.size}, "
        f"mean {_plain(how.mean)}, std {_plain(how.std)}."
    )
