"""classes.json: the one sorted map from class id to class name that every step uses."""

from typing import Literal

from steps.reports.base import JsonFile


class Classes(JsonFile):
    """`names[id]` is the name of class `id`; an id without an image can have a name too."""

    names: dict[int, str]

    def resolve(self, class_num: int | Literal["auto"]) -> int:
        """Return the number of outputs: `class_num`, or for "auto" the largest class id + 1."""
        return max(self.names) + 1 if class_num == "auto" else class_num

    def listed(self, class_num: int) -> tuple[str, ...]:
        """Return the names of the ids 0 .. class_num - 1, all different.

        An id without a name is called unused_<id>, with a _ appended if a class already has this name.
        """
        taken = set(self.names.values())  # built once: there may be 100,000 ids without a name
        return tuple(self.names.get(number) or _free_name(number, taken) for number in range(class_num))


def _free_name(number: int, taken: set[str]) -> str:
    name = f"unused_{number}"
    while name in taken:
        name += "_"
    return name
