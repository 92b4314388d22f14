"""Fold the trained network to the form that ships, prove that both compute the same function, and write the form.

The folded network is plain. With `fuse.branches: keep`, for int8, the branches stay and only norms are absorbed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from steps.cli import run_step
from steps.errors import Refused
from steps.models.files import load_model, load_probes, save_model
from steps.models.normalised import normalised
from steps.models.readback import lost_state
from steps.params.fuse import FuseParams
from steps.reparam.certify import certify, exceeds
from steps.reparam.fold import FOLDABLE, absorb_branch_norms, absorb_norms, fold, norms_left
from steps.reports.card import Card
from steps.reports.certificate import Certificate, CertificateRow, CertifiedPrecision
from steps.tracing.example import refuse_a_precision_of_its_own

KEYS: dict[CertifiedPrecision, str] = {
    "fp64": "max_error_fp64",
    "fp32": "max_error_fp32",
    "fp16": "max_error_fp16",
    "bf16": "max_error_bf16",
}


def fuse(params: FuseParams, seed: int, model: Path, out: Path) -> None:
    """Write model/ (plain, without any batch norm that a convolution can absorb) and certificate.json.

    Refuses in three cases. First, branches should be kept and the network has none. Second, the outputs of a site
    or of the whole network differ from the trained ones by more than `max_error_fp64` or `max_error_fp32` (or
    `max_error_fp16`, `max_error_bf16`, if set), on random numbers or on the artifact's probe images. Third, a
    batch norm is left that a convolution could absorb.
    """
    trained, card = load_model(model)
    probes = load_probes(model)
    real_NCHW = normalised(trained, card.preprocessing).normalise(torch.from_numpy(probes.images_NHWC_u8))
    form = FORMS[params.branches]
    fused = form.card(card)
    refuse_a_precision_of_its_own(trained, real_NCHW[:1])
    trained.double()  # exact, also the way back; `plain` is not rounded, so the certificate tests the algebra too
    plain = form.make(trained, real_NCHW[:1])
    trained.float()
    all_bounds = {precision: getattr(params, key) for precision, key in KEYS.items()}
    bounds = {precision: bound for precision, bound in all_bounds.items() if bound is not None}
    rows = certify(trained, plain, real_NCHW, seed, bounds)
    certificate = Certificate(rows=rows, left_as_is=norms_left(plain, real_NCHW))
    if exceeds(rows[0]):
        raise Refused(_sentence(rows), certificate)
    forgotten = [norm for norm, reason in certificate.left_as_is.items() if reason == FOLDABLE]
    if forgotten:
        raise Refused(_incomplete_fold(forgotten), certificate)
    save_model(out / "model", plain.float(), fused, probes)
    in_memory = normalised(plain, card.preprocessing).eval()
    sentence = lost_state(out / "model", in_memory, [probes.images_NHWC_u8])
    if sentence is not None:
        raise Refused(sentence, certificate)
    certificate.write(out / "certificate.json")


def _folded(trained: nn.Module, example_NCHW: Tensor) -> nn.Module:
    return absorb_norms(fold(trained, example_NCHW), example_NCHW)


def _folded_card(card: Card) -> Card:
    return card.model_copy(update={"form": "fuse", "fused": True, "expansion": None, "made_from": card.artifact})


def _kept_card(card: Card) -> Card:
    """Return the card of the network with its branches, or raise Refused if it has no branches."""
    if card.expansion is None or card.expansion.mode != "branch":
        reason = (
            "the network was trained as a plain network"
            if card.expansion is None
            else "the network was trained in mode online, which has one kernel per site"
        )
        raise Refused(f"fuse.branches is keep, but {reason}; set fuse.branches to fold.", Certificate())
    kept = card.expansion.model_copy(update={"norms": "absorbed"})
    return card.model_copy(update={"form": "fuse", "expansion": kept, "made_from": card.artifact})


class Form(NamedTuple):
    """How to make the shipped network from the trained network and an example image, and how to make its card."""

    make: Callable[[nn.Module, Tensor], nn.Module]
    card: Callable[[Card], Card]


FORMS: dict[str, Form] = {
    "fold": Form(_folded, _folded_card),
    "keep": Form(absorb_branch_norms, _kept_card),
}


def _sentence(rows: tuple[CertificateRow, ...]) -> str:
    """Return the message for the worst row: its site, its error and the bound."""
    worst = rows[0]
    error = (
        "by a number that is not finite, or in the structure of its output,"
        if worst.error is None
        else f"by {worst.error:.2g}"
    )
    hint = "No network was written; certificate.json has the other sites."
    if not any(exceeds(row) for row in rows if row.precision == "fp64"):
        hint = (
            "In fp64 every site is within its bound: the fold is right, and the network itself magnifies rounding."
        )
    return (
        f"at {worst.site} the network differs {error} of the largest output in {worst.precision} on "
        f"{worst.probes} probes; fuse.{KEYS[worst.precision]} allows {worst.bound:.2g}. {hint}"
    )


def _incomplete_fold(norms: list[str]) -> str:
    """Return the message for norms that should have been absorbed."""
    return (
        f"the plain network still has {len(norms)} batch norms that their convolutions could absorb, the first "
        f"{norms[0]}: the fold is not complete. No network was written; certificate.json lists these norms."
    )


if __name__ == "__main__":
    run_step(fuse, report="certificate.json")
