"""Write the fused network as an ONNX graph, after a run in ONNX Runtime has shown that both compute the same."""

import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from steps.backends import onnxruntime
from steps.cli import run_step
from steps.engines.contract import Images, Runner, WrongFile
from steps.errors import Refused
from steps.graphs.exporting import InvalidGraph, checked_bytes, described, simplified, to_onnx
from steps.models.files import ProbeImages, load_classifier, load_probes, save_probes
from steps.models.normalised import Normalised
from steps.params.export import ExportParams
from steps.reparam.certify import exceeds, relative_error, worst_first
from steps.reports.artifact import write_card
from steps.reports.card import Card
from steps.reports.certificate import Certificate, CertificateRow, ProbeKind

BATCHES = (1, 2, 7)  # one image, the traced batch size, and a size that tracing has not seen
PACKAGES = ("onnx", "onnxruntime", "onnxscript", "onnxsim", "torch")


def export(params: ExportParams, seed: int, model: Path, out: Path) -> None:
    """Write model/ (model.onnx, card.json, probes.npz) and certificate.json.

    The graph takes any number of images_NHWC_u8 and returns float32 logits_NK. Refuses if the graph is no valid
    ONNX or does not fit its card. Refuses also if, at any of several batch sizes, the graph's outputs in ONNX
    Runtime differ from the fused network's outputs by more than `max_error`.
    """
    network, card = load_classifier(model)
    probes = load_probes(model)
    unproven = out / ".unproven"
    try:
        exported = _write(unproven, network, card, probes, params)
        run = onnxruntime.open_engine(unproven, exported, threads=None)
    except (InvalidGraph, WrongFile) as fault:
        shutil.rmtree(unproven)
        raise Refused(str(fault), Certificate()) from fault
    rows = _certify(network, run, probes, exported.preprocessing.size, seed, params.max_error)
    certificate = Certificate(rows=rows)
    if exceeds(rows[0]):
        shutil.rmtree(unproven)
        raise Refused(_sentence(rows[0]), certificate)
    unproven.rename(out / "model")
    certificate.write(out / "certificate.json")


def _write(folder: Path, network: Normalised, card: Card, probes: ProbeImages, params: ExportParams) -> Card:
    """Write the artifact of the exported graph and return its card."""
    graph = to_onnx(network.network, card, params.opset)
    if params.simplify == "onnxsim":
        graph = simplified(graph)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(checked_bytes(described(graph, card)))
    save_probes(folder, probes)
    exported = card.model_copy(
        update={
            "form": "export",
            "backend": "onnxruntime",
            "made_from": card.artifact,
            "versions": {package: version(package) for package in PACKAGES},
        }
    )
    return write_card(folder, exported)


def _certify(
    network: Normalised, run: Runner, probes: ProbeImages, size: int, seed: int, bound: float
) -> tuple[CertificateRow, ...]:
    """Return the comparisons of the graph with the network, the worst first."""
    rows = []
    for kind, images_NHWC_u8 in _images(probes, size, seed):
        with torch.inference_mode():
            expected_NK = network(torch.from_numpy(images_NHWC_u8))
        error = relative_error(expected_NK, torch.from_numpy(run(images_NHWC_u8)))
        site = f"whole network, batch of {len(images_NHWC_u8)}"
        rows.append(CertificateRow(site=site, precision="fp32", probes=kind, error=error, bound=bound))
    return worst_first(rows)


def _images(probes: ProbeImages, size: int, seed: int) -> Iterator[tuple[ProbeKind, Images]]:
    generator = np.random.default_rng(seed)
    for batch in BATCHES:
        yield "random", generator.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    yield "real", probes.images_NHWC_u8


def _sentence(worst: CertificateRow) -> str:
    error = "by a number that is not finite" if worst.error is None else f"by {worst.error:.2g}"
    return (
        f"the ONNX graph differs {error} of the largest logit from the fused network ({worst.site}, "
        f"{worst.probes} probes, ONNX Runtime); export.max_error allows {worst.bound:.2g}."
    )


if __name__ == "__main__":
    run_step(export, report="certificate.json")
