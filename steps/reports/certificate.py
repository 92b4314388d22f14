"""certificate.json of fuse and export: the proof that a transformation kept the outputs."""

from typing import Literal

from steps.reports.base import JsonFile, Report

CertifiedPrecision = Literal["fp64", "fp32", "fp16", "bf16"]
ProbeKind = Literal["random", "real"]


class CertificateRow(JsonFile):
    """One comparison: `error` is the largest absolute difference divided by the largest absolute output."""

    site: str  # a module path, or "whole network"
    precision: CertifiedPrecision
    probes: ProbeKind
    error: float | None  # null: not finite
    bound: float


class Certificate(Report):
    """All comparisons, the worst first."""

    rows: tuple[CertificateRow, ...] = ()
    left_as_is: dict[str, str] = {}  # norms that could not be removed, with the reason
