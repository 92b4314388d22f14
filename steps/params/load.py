"""Read params.yaml as one typed whole."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from steps.backends.table import parse_engine
from steps.errors import BadInput, did_you_mean
from steps.params.base import Count, Section
from steps.params.build import BuildParams
from steps.params.export import ExportParams
from steps.params.fuse import FuseParams
from steps.params.gate import GateParams
from steps.params.ingest import IngestParams
from steps.params.release import ReleaseParams
from steps.params.split import SplitParams
from steps.params.train import TrainParams
from steps.params.validate import ValidateParams

SHARED_KEYS = ("seed", "class_num", "engines")


class Params(Section):
    """The whole of params.yaml: three shared keys, and one section a step."""

    seed: Count
    class_num: Annotated[int, Field(ge=2)] | Literal["auto"]
    engines: tuple[str, ...] = Field(min_length=1)
    ingest: IngestParams
    validate_: ValidateParams = Field(alias="validate")  # pydantic's models own the name `validate`
    split: SplitParams
    train: TrainParams
    fuse: FuseParams
    export: ExportParams
    build: BuildParams
    gate: GateParams
    release: ReleaseParams

    def section(self, step: str) -> Section:
        """Return the section of the step of this name."""
        field = "validate_" if step == "validate" else step
        section: Section = getattr(self, field)
        return section

    @field_validator("engines")
    @classmethod
    def _are_names(cls, engines: tuple[str, ...]) -> tuple[str, ...]:
        """Engine names become folders and commands, so only those that a backend knows are let in."""
        for engine in engines:
            try:
                parse_engine(engine)
            except BadInput as unknown:
                raise ValueError(str(unknown)) from unknown
        if len(set(engines)) < len(engines):
            raise ValueError("an engine is listed twice")
        return engines

    @model_validator(mode="after")
    def _requires_forms_that_exist(self) -> Self:
        forms = ("fuse", "export", *self.engines)
        for name in self.gate.required:
            if name not in forms:
                near = did_you_mean(name, forms)
                raise ValueError(f"gate.required: no form is called '{name}'.{near} There are {', '.join(forms)}")
        return self


def load_params(path: Path) -> Params:
    """Return the checked params, or raise BadInput that lists every fault with its key."""
    if not path.is_file():
        raise BadInput(f"{path} is not there; run from the project's folder or name it with --params.")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise BadInput(f"{path} is no YAML: {' '.join(str(fault).split())}") from fault
    try:
        return Params.model_validate(content)
    except ValidationError as faults:
        lines = [_sentence(error["type"], error["loc"], error["msg"]) for error in faults.errors()]
        raise BadInput(f"{path} has {len(lines)} fault(s):\n  " + "\n  ".join(lines)) from faults


def _sentence(kind: str, location: tuple[int | str, ...], message: str) -> str:
    key = ".".join(map(str, location))
    if kind == "extra_forbidden":
        return f"{key}: unknown key.{did_you_mean(str(location[-1]), _known_keys(location[:-1]))}"
    said = message.removeprefix("Value error, ")
    return f"{key}: {said}" if key else said  # a fault between two keys names them itself


def _known_keys(parents: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are allowed beside the one that was not known."""
    model: type[Section] = Params
    for parent in parents:
        fields = {field.alias or name: field for name, field in model.model_fields.items()}
        inner = fields[str(parent)].annotation if str(parent) in fields else None
        if not (isinstance(inner, type) and issubclass(inner, Section)):
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]
