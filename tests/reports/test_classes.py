"""The map of classes: one name for each id, and no name twice."""

from steps.reports.classes import Classes


def test_ids_without_a_label_have_names_too() -> None:
    assert Classes(names={1: "cat"}).listed(3) == ("unused_0", "cat", "unused_2")


def test_no_name_is_given_twice_even_to_classes_called_unused() -> None:
    classes = Classes(names={0: "unused_2", 1: "unused_2_", 5: "unused_3"})
    assert classes.listed(6) == ("unused_2", "unused_2_", "unused_2__", "unused_3_", "unused_4", "unused_3")
