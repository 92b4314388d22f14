"""The base of every JSON file between steps: typed, written whole or not at all, with a place for a refusal."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from steps.errors import BadInput
from steps.files import write_whole


class JsonFile(BaseModel):
    """A JSON file of a known shape: unknown keys are refused, numbers must be finite or null."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the file's contents, or raise BadInput naming the file and the first fault."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as missing:
            raise BadInput(f"{path} is not there; run the stage that writes it first.") from missing
        except OSError as fault:  # a folder has this name, or the user may not read the file
            raise BadInput(f"{path} cannot be read: {fault.strerror}.") from fault
        except ValidationError as fault:
            first = fault.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            raise BadInput(f"{path} is no {cls.__name__}: {where}: {first['msg']}.") from fault

    def write(self, path: Path) -> None:
        """Write the file whole, with sorted keys and no NaN: equal reports give equal bytes."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, allow_nan=False)
        write_whole(path, (text + "\n").encode())


class Report(JsonFile):
    """A step's report. `refused` is the sentence of the step's refusal, else null."""

    refused: str | None = None

    def write_refused(self, sentence: str, path: Path) -> None:
        """Write the report with this sentence in `refused`."""
        self.model_copy(update={"refused": sentence}).write(path)


class Refusal(Report):
    """The report of a step that refused before it had figures; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def read_refusal(path: Path) -> str | None:
    """Return the refusal in a step's report, or None where there is no refusal or no report."""
    return Refusal.read(path).refused if path.is_file() else None
