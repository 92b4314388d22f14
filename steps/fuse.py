"""Fold the trained network to its plain form, prove that it is the same function, and only then write it."""

from pathlib import Path

import torch

from steps.cli import run_step
from steps.errors import Refused
from steps.models.files import load_model, load_probes, save_model
from steps.models.normalised import normalised
from steps.params.fuse import FuseParams
from steps.reparam.certify import Precision, certify, exceeds
from steps.reparam.fold import FOLDABLE, absorb_norms, fold, norms_left
from steps.reports.certificate import Certificate, CertificateRow

KEYS: dict[Precision, str] = {
    "fp64": "max_error_fp64",
    "fp32": "max_error_fp32",
    "fp16": "max_error_fp16",
    "bf16": "max_error_bf16",
}


def fuse(params: FuseParams, seed: int, model: Path, out: Path) -> None:
    """Write model/ (plain, no batch norm that could be gone) and certificate.json.

    Refuses when any site's outputs, or the whole network's, differ from the trained ones by more than
    `max_error_fp64` or `max_error_fp32` (and `max_error_fp16`, `max_error_bf16`, where these are asked for), on
    random numbers or on the real images that the artifact carries; and when a batch norm is left that a
    convolution could absorb.
    """
    trained, card = load_model(model)
    probes = load_probes(model)
    real_NCHW = normalised(trained, card.preprocessing).normalise(torch.from_numpy(probes.images_NHWC_u8))
    trained.double()  # exact, as is the way back; plain is not rounded yet: the certificate shows the algebra too
    plain = absorb_norms(fold(trained, real_NCHW[:1]), real_NCHW[:1])
    trained.float()
    asked = {precision: getattr(params, key) for precision, key in KEYS.items()}
    bounds = {precision: bound for precision, bound in asked.items() if bound is not None}
    rows = certify(trained, plain, real_NCHW, seed, bounds)
    certificate = Certificate(rows=rows, left_as_is=norms_left(plain, real_NCHW))
    if exceeds(rows[0]):
        raise Refused(_sentence(rows), certificate)
    forgotten = [norm for norm, reason in certificate.left_as_is.items() if reason == FOLDABLE]
    if forgotten:
        raise Refused(_forgotten(forgotten), certificate)
    fused = card.model_copy(update={"form": "fuse", "fused": True, "expansion": None, "made_from": card.artifact})
    save_model(out / "model", plain.float(), fused, probes)
    certificate.write(out / "certificate.json")


def _sentence(rows: tuple[CertificateRow, ...]) -> str:
    """Say which site differs, by how much, and against which bound."""
    worst = rows[0]
    error = (
        "by a number that is not finite, or in what it returns,"
        if worst.error is None
        else f"by {worst.error:.2g}"
    )
    hint = "No network was written; certificate.json has the other sites."
    if not any(exceeds(row) for row in rows if row.precision == "fp64"):
        hint = "In fp64 every site holds: the fold is right, and the network itself magnifies rounding."
    return (
        f"at {worst.site} the plain network differs {error} of the largest output in {worst.precision} on "
        f"{worst.probes} probes; fuse.{KEYS[worst.precision]} allows {worst.bound:.2g}. {hint}"
    )


def _forgotten(norms: list[str]) -> str:
    """Say which norms are still there without need."""
    return (
        f"the plain network still has {len(norms)} batch norms that their convolutions could absorb, the first "
        f"{norms[0]}: the fold is not complete. No network was written; certificate.json lists them."
    )


if __name__ == "__main__":
    run_step(fuse, report="certificate.json")
