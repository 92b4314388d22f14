"""The demo's figures fail if their source is faulty: a proof with a failed row, or a proof without rows."""

from pathlib import Path
from typing import Literal

import pytest

from benchmarks.demo import figures_of
from steps.reports.certificate import Certificate, CertificateRow
from steps.reports.verdict import FormVerdict, Verdict

FORMS = (
    FormVerdict(form="train", judgement="pass", required=True, top1=0.99, agreement=1.0),
    FormVerdict(form="fuse", judgement="pass", required=True, top1=0.99, agreement=1.0),
    FormVerdict(form="champion", judgement="deferred", required=False),
)
TABLE = "form  verdict\ntrain  pass\nfuse  pass\nchampion  deferred\n"
PROOF = tuple(
    CertificateRow(site=site, precision=precision, probes="real", error=error, bound=1.0)
    for precision, error in (("fp32", 1e-6), ("fp64", 1e-15))
    for site in ("whole network", "body.stem.0.conv")
)


def test_a_good_demo_keeps_every_bound(tmp_path: Path) -> None:
    assert _broken(tmp_path, FORMS, PROOF) == []


@pytest.mark.parametrize("error", [None, 1e-4])
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_one_site_that_differs_breaks_the_proof(
    tmp_path: Path, precision: Literal["fp32", "fp64"], error: float | None
) -> None:
    bad = CertificateRow(site="body.stage1.0.conv", precision=precision, probes="random", error=error, bound=1.0)
    assert _broken(tmp_path, FORMS, (*PROOF, bad)) == [f"fuse error, sites, {precision}"]


def test_a_proof_without_rows_proves_nothing(tmp_path: Path) -> None:
    assert len(_broken(tmp_path, FORMS, ())) == 4


@pytest.mark.parametrize(
    ("figures", "broken"),
    [
        ({"top1": 0.97}, "test top-1 of fuse"),
        ({"top1": None}, "test top-1 of fuse"),
        ({"agreement": 0.998}, "agreement of fuse with train"),
    ],
)
def test_one_form_that_falls_short_is_named(tmp_path: Path, figures: dict[str, float | None], broken: str) -> None:
    train, fuse, champion = FORMS
    assert _broken(tmp_path, (train, fuse.model_copy(update=figures), champion), PROOF) == [broken]


def test_a_form_that_the_table_leaves_out_is_missed(tmp_path: Path) -> None:
    assert _broken(tmp_path, FORMS, PROOF, TABLE.replace("fuse", "")) == ["forms in the printed table, of 3"]


def _broken(
    clone: Path, forms: tuple[FormVerdict, ...], proof: tuple[CertificateRow, ...], printed: str = TABLE
) -> list[str]:
    """Return the names of the figures that miss their bound when the demo has this verdict and this proof."""
    Verdict(judgement="pass", forms=forms).write(clone / "data/gate/verdict.json")
    Certificate(rows=proof).write(clone / "data/fuse/certificate.json")
    return [figure.name for figure in figures_of(clone, printed) if not figure.holds]
