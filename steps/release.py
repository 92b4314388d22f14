"""Write the forms that passed into one folder, which can be used without this repository."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from steps.cli import run_step
from steps.engines.names import missing_files
from steps.errors import BadInput, Refused
from steps.files import write_whole
from steps.params.gate import GateParams
from steps.params.release import ReleaseParams
from steps.parity.judge import Terms, judge
from steps.reports.artifact import CARD, read_verified_card
from steps.reports.card import Card
from steps.reports.release import INDEX, ReleaseCard, checksums, plain_files, write_sums
from steps.reports.verdict import CHAMPION, LINE, FormVerdict, Verdict, card_checksum

REPOSITORY = Path(__file__).parent.parent
CONSUMERS, LICENSE = REPOSITORY / "consumers", REPOSITORY / "LICENSE"
CONSUMING = (
    "README.md",
    "predict.py",
    *(f"cpp/{name}" for name in ("CMakeLists.txt", "classify.cpp", "image.hpp", "release.hpp")),
)
SHIPPED = LINE[-1]  # every release holds the model of this form
EMBEDDED = "onnxruntime"  # predict.py and Triton run this model with this backend


def release(
    params: ReleaseParams,
    gate_params: GateParams,
    engines: tuple[str, ...],
    evaluate: Path,
    gate: Path,
    model: Path,
    build: Path,
    ledger: Path,
    out: Path,
) -> None:
    """Write the release: model/, engines/, labels.txt, ledger.parquet, verdict, consumers, LICENSE, checksums.

    Refuses without a passing verdict, where the verdict is not what the rule of the gate gives for `evaluate`, and
    when a model on disk is not the judged model. All engines that passed ship; release.json has the reasons for
    the others.
    """
    verdict = _passing_verdict(gate)
    _refuse_another_verdict(verdict, judge(evaluate, Terms.of(engines, gate_params.model_dump())), gate)
    forms = {form.form: form for form in verdict.forms}
    candidates = {name: form for name, form in forms.items() if name not in (*LINE, CHAMPION)}
    shipped = [name for name, form in candidates.items() if form.judgement == "pass"]
    card = _ship(model, forms[SHIPPED], out / "model")
    for name in shipped:
        _ship(build / name, candidates[name], out / "engines" / name)
    _copy([gate / "verdict.json", gate / "verdict.md", ledger, LICENSE], out)
    for name in CONSUMING:
        _copy([CONSUMERS / name], (out / name).parent)
    for name, content in plain_files(card).items():
        write_whole(out / name, content)
    index = ReleaseCard(
        name=params.name,
        engines=tuple(shipped),
        withheld={
            name: f"{form.judgement}: {form.why}" for name, form in candidates.items() if name not in shipped
        },
        files=checksums(out),
    )
    index.write(out / INDEX)
    write_sums(out)


def _passing_verdict(gate: Path) -> Verdict:
    verdict = Verdict.read(gate / "verdict.json")
    if verdict.refused is not None:
        raise Refused(f"there is no passing verdict; the gate refused: {verdict.refused}")
    if verdict.judgement != "pass":
        raise Refused(f"there is no passing verdict: {gate / 'verdict.json'} says '{verdict.judgement}'.")
    if not any(form.form == SHIPPED and form.judgement == "pass" for form in verdict.forms):
        raise Refused(f"{gate / 'verdict.json'} has no passed form '{SHIPPED}', whose model every release holds.")
    return verdict


def _refuse_another_verdict(verdict: Verdict, rule: Verdict, gate: Path) -> None:
    """Refuse a verdict that was edited, or belongs to other scores or bounds; name the form that differs."""
    if verdict == rule:
        return
    judged, given = ({form.form: form for form in one.forms} for one in (rule, verdict))
    forms = [form for form in {**judged, **given} if judged.get(form) != given.get(form)]
    what = f"of the form '{forms[0]}' " if forms else ""
    raise Refused(
        f"the verdict {what}in {gate / 'verdict.json'} is not the verdict that the gate's rule gives for the "
        "scores in evaluate: the verdict was changed, or is older than the scores; run the gate again."
    )


def _ship(artifact: Path, judged: FormVerdict, target: Path) -> Card:
    """Copy the card and the files that it names, if they are the judged model; return the card."""
    _check_judged(artifact, judged)
    target.mkdir(parents=True)
    for name in (*Card.read(artifact / CARD).files, CARD):
        shutil.copyfile(artifact / name, target / name)
    return _check_judged(target, judged)  # the copy is checked too: the release must hold the judged files


def _check_judged(artifact: Path, judged: FormVerdict) -> Card:
    try:
        card = read_verified_card(artifact)
    except BadInput as fault:
        raise Refused(f"{judged.form}: the model on disk is not the one that was judged: {fault}") from fault
    if missing := missing_files(EMBEDDED if judged.form == SHIPPED else card.backend, card.files):
        raise Refused(f"{judged.form}: {artifact} {missing}")
    if card_checksum(card) != judged.card:
        raise Refused(
            f"{judged.form}: the model on disk is not the one that was judged: {artifact / CARD} is of another "
            "model; run its evaluate stage and the gate again."
        )
    return card


def _copy(files: Iterable[Path], out: Path) -> None:
    for file in files:
        if not file.is_file():
            raise BadInput(f"{file} is not there; run the stage that writes it first.")
        out.mkdir(exist_ok=True)
        shutil.copyfile(file, out / file.name)


if __name__ == "__main__":
    run_step(release, index=INDEX)
