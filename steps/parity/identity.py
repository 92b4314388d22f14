"""Are two forms about the same images, the same classes and the same model?

Whatever the figures say: without this they compare nothing.
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
            f"it was evaluated on the test set {form.report.test_set[:12]}..., "
            f"{reference.form} on {reference.report.test_set[:12]}...; evaluate both on the same split.",
        )
    differences = [*_listed("lacks", _not_in(reference, form)), *_listed("adds", _not_in(form, reference))]
    if differences:
        raise Unusable("images", f"compared with {reference.form}, {'; '.join(differences)}.")
    repeated = len(form.ids) - form.ids.n_unique()
    if repeated:
        raise Unusable("images", f"{repeated} of its scores are of images that it names more than once.")
    if not form.ids.equals(reference.ids):
        raise Unusable("images", f"its scores are sorted differently from those of {reference.form}.")
    if not form.checksums.equals(reference.checksums):
        raise Unusable("images", f"images of the same names have other bytes than with {reference.form}.")
    other = int((form.labels_N != reference.labels_N).sum())
    if other:
        raise Unusable("labels", f"{other} images have another label than with {reference.form}.")


def check_same_classes(form: Card, reference: Card) -> None:
    """Raise Unusable unless both cards name the same classes in the same order."""
    if form.class_num != reference.class_num:
        raise Unusable("classes", f"it has {form.class_num} classes, {reference.form} has {reference.class_num}.")
    for number, (name, right) in enumerate(zip(form.class_names, reference.class_names, strict=True)):
        if name != right:
            raise Unusable("classes", f"class {number} is '{name}', with {reference.form} it is '{right}'.")


def check_same_model(form: str, card: Card, parent: str, parent_card: Card | None) -> None:
    """Raise Unusable unless this form was made from the parent that was judged, for the same input."""
    if card.form != form:
        raise Unusable(
            "chain", f"its card says that it is '{card.form}': another model was evaluated in its place."
        )
    made = f"{card.backend}-{card.precision}"
    if form not in LINE and made != form:
        raise Unusable("chain", f"its card says that it is made for {made}; build {form} again.")
    if parent_card is None:
        raise Unusable("chain", f"it is made from {parent}, of which there is no card; evaluate {parent} first.")
    if card.made_from != parent_card.artifact:
        raise Unusable(
            "chain",
            f"it is stale, or of another model: it was made from {(card.made_from or 'nothing')[:12]}, "
            f"and {parent} is {parent_card.artifact[:12]}; make {form} again.",
        )
    if card.preprocessing != parent_card.preprocessing:
        raise Unusable("chain", f"its card names another preprocessing than that of {parent}; make {form} again.")


def _not_in(one: Evidence, other: Evidence) -> Sequence[str]:
    return [str(name) for name in one.ids.filter(~one.ids.is_in(other.ids.implode()))]


def _listed(verb: str, names: Sequence[str]) -> list[str]:
    return [f"it {verb} {len(names)} images, the first {names[0]!r}"] if names else []
