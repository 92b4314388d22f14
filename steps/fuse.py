"""Fold the trained network to its plain form, prove that it is the same function, and only then write it."""

from pathlib import Path

import torch

from steps.cli import run_step
from steps.errors import Refused
from steps.models.files import load_model, load_probes, save_model
from steps.models.normalised import normalised
from steps.params.fuse import FuseParams
from steps.reparam.certify import Precision, certify, exceeds
from steps.reparam.fold import absorb_norms, fold, norms_left
from steps.reports.certificate import Certificate, CertificateRow

KEYS: dict[Precision, str] = {"fp64": "fuse.max_error_fp64", "fp32": "fuse.max_error_fp32"}


def fuse(params: FuseParams, seed: int, model: Path, out: Path) -> None:
    """Write model/ (plain, no batch norm that could be gone) and certificate.json.

    Refuses when any site's outputs, or the whole network's, differ from the trained ones by more than
    `max_error_fp64` or `max_error_fp32`, on random numbers or on the real images that the artifact carries.
    """
    trained, card = load_model(model)
    probes = load_probes(model)
    example_NCHW = torch.zeros(1, 3, card.preprocessing.size, card.preprocessing.size)  # some take no other size
    plain = absorb_norms(
        fold(trained.double()), example_NCHW
    )  # not yet rounded: the certificate shows the algebra
    trained.float()  # exact: what was read is float32
    real_NCHW = normalised(trained, card.preprocessing).normalise(torch.from_numpy(probes.images_NHWC_u8))
    bounds: dict[Precision, float] = {"fp64": params.max_error_fp64, "fp32": params.max_error_fp32}
    rows = certify(trained, plain, real_NCHW, seed, bounds)
    certificate = Certificate(rows=rows, left_as_is=norms_left(plain, real_NCHW))
    if exceeds(rows[0]):
        raise Refused(_sentence(rows), certificate)
    fused = card.model_copy(update={"form": "fuse", "fused": True, "expansion": None, "made_from": card.artifact})
    save_model(out / "model", plain.float(), fused, probes)
    certificate.write(out / "certificate.json")


def _sentence(rows: tuple[CertificateRow, ...]) -> str:
    """Say which site differs, by how much, and against which bound."""
    worst = rows[0]
    error = "by a number that is not finite" if worst.error is None else f"by {worst.error:.2g}"
    hint = "No network was written; certificate.json has the other sites."
    if not any(exceeds(row) for row in rows if row.precision == "fp64"):
        hint = "In fp64 every site holds: the fold is right, and the network itself magnifies rounding."
    return (
        f"at {worst.site} the plain network differs {error} of the largest output in {worst.precision} on "
        f"{worst.probes} probes; {KEYS[worst.precision]} allows {worst.bound:.2g}. {hint}"
    )


if __name__ == "__main__":
    run_step(fuse, report="certificate.json")
