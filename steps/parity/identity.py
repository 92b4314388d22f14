"""Is the evidence of two forms about the same images, the same classes and the same model?

Without these checks, a comparison of two forms has no meaning.
"""

from collections.abc import Sequence

from steps.parity.evidence import Evidence, Unusable
from steps.reports.card import Card
from steps.reports.verdict import LINE


def check_same_images(form: Evidence, reference: Evidence) -> None:
    """Raise Unusable unless both have the same images, in the same order, with the same labels."""
    if form.report.test_set != reference.report.test_set:
        raise Unusable(
            "images",
            f"{form.form} was evaluated on the test set {form.report.test_set[:12]}..., "
            f"{reference.form} on {reference.report.test_set[:12]}...; evaluate both on the same split.",
        )
    differences = [
        *_listed(form.form, "lacks", _not_in(reference, form)),
        *_listed(form.form, "adds", _not_in(form, reference)),
    ]
    if differences:
        raise Unusable("images", f"compared with {reference.form}, {'; '.join(differences)}.")
    repeated = len(form.ids) - form.ids.n_unique()
    if repeated:
        raise Unusable("images", f"{repeated} scores are of images that {form.form} lists more than once.")
    if not form.ids.equals(reference.ids):
        raise Unusable("images", f"the scores are sorted differently from those of {reference.form}.")
    if not form.checksums.equals(reference.checksums):
        raise Unusable("images", f"images of the same names have other bytes than in {reference.form}.")
    relabelled = int((form.labels_N != reference.labels_N).sum())
    if relabelled:
        raise Unusable("labels", f"{relabelled} images have another label than in {reference.form}.")


def check_same_classes(form: Card, reference: Card) -> None:
    """Raise Unusable unless both cards name the same classes in the same order."""
    if form.class_num != reference.class_num:
        raise Unusable(
            "classes", f"{form.form} has {form.class_num} classes, {reference.form} has {reference.class_num}."
        )
    for number, (name, reference_name) in enumerate(zip(form.class_names, reference.class_names, strict=True)):
        if name != reference_name:
            raise Unusable(
                "classes",
                f"class {number} is '{name}' in {form.form}, and '{reference_name}' in {reference.form}.",
            )


def check_same_model(form: str, card: Card, parent: str, parent_card: Card | None) -> None:
    """Raise Unusable unless this form was made from the judged parent, with the parent's preprocessing."""
    if card.form != form:
        raise Unusable(
            "chain", f"its card names the form '{card.form}': another model was evaluated in place of {form}."
        )
    built_for = f"{card.backend}-{card.precision}"
    if form not in LINE and built_for != form:
        raise Unusable("chain", f"its card says that it was built for {built_for}; build {form} again.")
    if parent_card is None:
        raise Unusable(
            "chain", f"{form} is made from {parent}, and {parent} has no card; evaluate {parent} first."
        )
    if card.made_from != parent_card.artifact:
        raise Unusable(
            "chain",
            f"{form} is stale, or is of another model: it was made from {(card.made_from or 'nothing')[:12]}, "
            f"and {parent} is now {parent_card.artifact[:12]}; make {form} again.",
        )
    if card.preprocessing != parent_card.preprocessing:
        raise Unusable("chain", f"its card has another preprocessing than {parent}; make {form} again.")


def _not_in(one: Evidence, other: Evidence) -> Sequence[str]:
    return [str(name) for name in one.ids.filter(~one.ids.is_in(other.ids.implode()))]


def _listed(form: str, verb: str, names: Sequence[str]) -> list[str]:
    return [f"{form} {verb} {len(names)} images, the first {names[0]!r}"] if names else []
