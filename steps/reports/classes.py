"""classes.json: the one sorted map from class id to class name that every step uses."""

from typing import Literal

from steps.reports.base import JsonFile


class Classes(JsonFile):
    """`names[id]` is the name of class `id`; ids without an image have one too."""

    names: dict[int, str]

    def resolve(self, class_num: int | Literal["auto"]) -> int:
        """Return the number of outputs: `class_num`, or for "auto" the largest class id + 1."""
        return max(self.names) + 1 if class_num == "auto" else class_num

    def listed(self, class_num: int) -> tuple[str, ...]:
        """Return the names of ids 0 .. class_num - 1; an id that no label uses is called unused_<id>."""
        return tuple(self.names.get(number, f"unused_{number}") for number in range(class_num))
