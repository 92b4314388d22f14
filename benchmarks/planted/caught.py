"""Which check said no: a name for it, from the step that stopped and what it wrote."""

import re
from typing import NamedTuple

from steps.errors import Refused, StepError
from steps.reparam.certify import exceeds
from steps.reports.certificate import Certificate
from steps.reports.verdict import Verdict


class Catch(NamedTuple):
    """The stage that stopped, the checks that said no there, its sentence, and whatever else was said or named."""

    stage: str
    checks: frozenset[str]
    sentence: str
    details: tuple[str, ...] = ()


# check -> how its sentence is known; the gate's checks are its criteria, by the names in the verdict
SENTENCES: dict[str, str] = {
    "certificate of fuse": r"at .* the network differs",
    "certificate of export": r"the ONNX graph differs",
    "valid ONNX": r"is no valid ONNX",
    "checksum": r"has the checksum|is listed in the artifact's card\.json|is not the checksum of its files",
    "strict loading": r"does not fit the .* of its card",
    "range of float16": r"the tensor .* reaches .* beyond float16's end",
    "answers of build": r"the engine was built, but .*; it must not be used",
    "batches of build": r"in batches of \d+ it gives other scores",
    "sizes of build": r"its scores of an image of .* differ from the scores of the reference",
    "class names of the images": r"in the images and .* in the model|the images have \d+ classes and the model",
    "class names of the graph": r"the graph and the card are not of one model",
    "shape of the scores": r"gave \(.*\) scores for \d+ images",
    "batch of any size": r"takes batches of \d+ images only",
    "what was judged": r"the model on disk is not the one that was judged",
    "sums of the release": r"is not the file that SHA256SUMS names",
    "verdict": r"there is no passing verdict",
}


def caught(stage: str, fault: StepError) -> Catch:
    """Return which checks refused: of the gate all criteria that its first refused form fails.

    Where it fails none, those that it leaves open: these refuse it as well.
    """
    sentence = str(fault)
    if isinstance(fault, Refused) and isinstance(fault.report, Verdict):
        form = sentence.partition(":")[0]
        broken = [row for row in fault.report.criteria if row.form == form and row.judgement != "pass"]
        failed = [row for row in broken if row.judgement == "fail"] or broken
        message = tuple(row.sentence for row in failed)
        return Catch(stage, frozenset(row.metric for row in failed), sentence, message)
    found = frozenset(name for name, pattern in SENTENCES.items() if re.search(pattern, sentence))
    certificate = fault.report if isinstance(fault, Refused) else None
    rows = certificate.rows if isinstance(certificate, Certificate) else ()
    return Catch(stage, found, sentence, tuple(row.site for row in rows if exceeds(row)))
