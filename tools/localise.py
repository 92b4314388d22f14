"""Find the first tensor at which a form drifts from the form that it was made from, and name the usual cause.

`python -m tools.localise onnxruntime-fp16` compares this engine with `export`, on the test images whose scores
differ most, and writes `.foldline/localise/onnxruntime-fp16.html`. A form is `fuse`, `export` or a built engine.
If the tensors of an engine cannot be read on this machine, the tool compares the graph that the engine was built
from. An engine that resizes gets pixels that need no resize. Exit code 0: compared. Exit code 2: something is
missing, and a sentence on stderr names it. If only the engine's package is missing, the tool still compares the
graph and writes the page.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import torch

from steps.backends.intermediates import CannotRead, read_tensors
from steps.backends.runner import backend_module, open_runner
from steps.building.consistency import unresized
from steps.engines.contract import Deferred, Images, MissingPackage
from steps.engines.intermediate import Intermediate
from steps.errors import BadInput, StepError
from steps.files import write_whole
from steps.images.dataset import image_root, load_all
from steps.images.manifest import read_manifest
from steps.localising.diagnoses import GRAPH_IS_RIGHT, NOTHING_DIFFERS, NOTHING_DRIFTS, Finding, diagnosis
from steps.localising.drift import LOGITS, Drift, drifts, first_drift, pair_by_layer, pair_by_name
from steps.localising.rebuilt_graph import tensors_of_graph
from steps.localising.worst_images import WorstImage, worst_images
from steps.metrics.agreement import log_softmax
from steps.models.files import load_model
from steps.pages.localisation import Localised, page
from steps.progress import say
from steps.reparam.pairing import pair_convs_with_norms
from steps.reports.artifact import CARD
from steps.reports.card import Card

PARENTS = {"fuse": "train", "export": "fuse"}
SAME_SCORE = 0.01  # of the softmax
OUT = Path(".foldline/localise")
FUSED_DIFFERS = (
    "But in a normal run, the engine gives these pixels other scores than its graph (by {difference:.2g} of the "
    "softmax): the runtime's fused kernels compute something else, such as int8 sums that saturate on this CPU. "
    "Within the graph, the drift grows most at '{name}' (to {error:.2g}). Run the engine on another CPU, or build "
    "another precision."
)
RESIZE_LEFT = (
    "On pixels that need no resize, the engine computes the same. If evaluate's scores differ, the engine's "
    "resize and crop differ, or evaluate had another preprocessing or order of images, or the scores are of "
    "another run."
)


def main() -> None:
    """Localise the form that the flags name, print the sentence and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.localise", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("form", metavar="FORM")
    parser.add_argument(
        "--data", type=Path, default=Path("data"), metavar="FOLDER", help="the folder of the steps (data)"
    )
    parser.add_argument("--images", type=int, default=8, metavar="N", help="number of worst images to compare (8)")
    flags = parser.parse_args()
    try:
        found = localise(flags.form, flags.data, max(flags.images, 2))
    except StepError as error:
        say(f"localise: {error}")
        sys.exit(error.exit_code)
    out = OUT / f"{found.form}.html"
    write_whole(out, page(found))
    missing = _missing(found.card)
    if missing:
        say(f"localise: {found.sentence}\n{out}")
        sys.exit(missing.exit_code)
    print(f"{found.sentence}\n{out}")


def _missing(card: Card) -> MissingPackage | None:
    """Return the missing package of the form's backend, or None."""
    try:
        backend_module(card.backend)
    except MissingPackage as missing:
        return missing
    return None


def localise(form: str, data: Path, count: int) -> Localised:
    """Return where the form drifts from its parent on the `count` worst test images, or raise BadInput."""
    if form == "train":
        raise BadInput("train is made from no other form: all other forms are compared with train.")
    folder, parent = _folder(form, data), PARENTS.get(form, "export")
    card = Card.read(folder / CARD)
    test = read_manifest(data / "split/manifest.parquet", split="test")
    worst = worst_images(data / "evaluate", form, parent, test["name"].to_list(), count)
    images_NHWC_u8 = _images(worst, test, data, card)
    of_form, note = _tensors(folder, data, images_NHWC_u8)
    reference = read_tensors(_folder(parent, data), images_NHWC_u8)
    compared = drifts(_paired(form, _folder(parent, data), reference, of_form))
    if not compared:
        raise BadInput(f"{form} and {parent} have no tensor with the same name; their graphs cannot be compared.")
    first = first_drift(compared, card.precision)
    if first:
        sentence = diagnosis(Finding(first, compared, form, card.precision))
    elif note:
        sentence = _of_scores(worst, GRAPH_IS_RIGHT)
    else:
        sentence = _fused_kernels_differ(folder, card, images_NHWC_u8, of_form, compared) or _of_scores(
            worst, RESIZE_LEFT if card.takes == "any" else NOTHING_DRIFTS
        )
    return Localised(form, parent, card, compared, first, sentence, worst, images_NHWC_u8, note)


def _fused_kernels_differ(
    folder: Path, card: Card, images_NHWC_u8: Images, shown: list[Intermediate], compared: Sequence[Drift]
) -> str | None:
    """Return the diagnosis if the form gives the same pixels other scores when no tensor is read, else None.

    A runtime that shows a tensor does not fuse the layers around this tensor, so other kernels compute the scores.
    """
    written_NK = next((tensor.values_N for tensor in shown if tensor.name == LOGITS), None)
    if card.form in PARENTS or written_NK is None:
        return None
    answered_NK = open_runner(folder)[0](unresized(images_NHWC_u8, card))
    difference = float(np.abs(np.exp(log_softmax(answered_NK)) - np.exp(log_softmax(written_NK))).max())
    if difference < SAME_SCORE:
        return None
    steepest = max(pairwise([None, *compared]), key=_growth)[1]
    assert steepest is not None
    return FUSED_DIFFERS.format(difference=difference, name=steepest.name, error=steepest.error)


def _growth(neighbours: tuple[Drift | None, Drift | None]) -> float:
    before, here = (0.0 if drift is None else drift.error for drift in neighbours)
    return here - before


def _of_scores(worst: list[WorstImage], if_scores_differ: str) -> str:
    """Return the diagnosis where no tensor drifts: NOTHING_DIFFERS if the scores agree too."""
    known = [image.difference for image in worst if image.difference is not None]
    return NOTHING_DIFFERS if known and max(known) < SAME_SCORE else if_scores_differ


def _folder(form: str, data: Path) -> Path:
    """Return the folder of the form's artifact, or raise BadInput with the existing forms."""
    forms = {name: data / name / "model" for name in ("train", *PARENTS)}
    forms |= {path.parent.name: path.parent for path in sorted((data / "build").glob(f"*/{CARD}"))}
    there = [name for name, folder in forms.items() if (folder / CARD).is_file()]
    if form not in there:
        raise BadInput(f"there is no form '{form}' in {data}; there are: {', '.join(there) or 'none'}.")
    return forms[form]


def _images(worst: list[WorstImage], test: pl.DataFrame, data: Path, card: Card) -> Images:
    names = pl.DataFrame({"name": [image.name for image in worst]})
    rows = names.join(test, on="name", how="inner", maintain_order="left")
    if rows.height != len(worst):
        raise BadInput(f"images of {data / 'evaluate'} are not in {data / 'split'}: evaluate the form again.")
    return load_all(rows, image_root(data / "ingest"), card.preprocessing)


def _tensors(folder: Path, data: Path, images_NHWC_u8: Images) -> tuple[list[Intermediate], str]:
    """Return the form's tensors, or those of the engine's graph with a note, if the engine's cannot be read.

    An engine that resizes gets images that need no resize.
    """
    card = Card.read(folder / CARD)
    try:
        return read_tensors(folder, unresized(images_NHWC_u8, card)), ""
    except (CannotRead, Deferred, MissingPackage) as reason:
        try:
            tensors = tensors_of_graph(folder, _folder("export", data), images_NHWC_u8)
        except BadInput as fault:
            if isinstance(reason, MissingPackage):  # the first thing to repair
                raise BadInput(f"{card.form}: {reason} Without it: {fault}") from fault
            raise
        without = ", without its resize and crop" if card.takes == "any" else ""
        note = f"so the graph that it was built from was compared{without}"
        return tensors, f"({card.form}: {str(reason).rstrip('.')}; {note}.)"


def _paired(
    form: str, parent: Path, reference: list[Intermediate], of_form: list[Intermediate]
) -> list[tuple[Intermediate, Intermediate]]:
    if form == "export":
        return pair_by_layer(reference, of_form)
    return pair_by_name(reference, of_form, _unfolded(parent) if form == "fuse" else ())


def _unfolded(parent: Path) -> set[str]:
    """Return the convolutions with a norm that is not folded: the fused layer has the output of both."""
    network, card = load_model(parent)
    size = card.preprocessing.size
    return set(pair_convs_with_norms(network, torch.zeros(1, 3, size, size)).norm_of)


if __name__ == "__main__":
    main()
