"""Read params.yaml as one typed whole."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from steps.engines.names import parse_engine
from steps.errors import BadInput, did_you_mean
from steps.params.base import Section
from steps.params.build import BuildParams
from steps.params.export import ExportParams
from steps.params.faults import sentences
from steps.params.fuse import FuseParams
from steps.params.gate import GateParams
from steps.params.ingest import IngestParams
from steps.params.release import ReleaseParams
from steps.params.split import SplitParams
from steps.params.text import params_as_json
from steps.params.train import TrainParams
from steps.params.validate import ValidateParams

SHARED_KEYS = ("seed", "class_num", "engines")


class Params(Section):
    """The whole of params.yaml: three shared keys, and one section a step."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        description="The seed of every random draw: the split, the weights, the order of the images, the probes."
    )
    class_num: Annotated[int, Field(ge=2)] | Literal["auto"] = Field(
        description="How many classes the network tells from each other. `auto`: the largest class id + 1. Where "
        "a number is given, labels must be below it.",
        json_schema_extra={"allowed": "a whole number from 2, or auto"},
    )
    engines: tuple[str, ...] = Field(
        min_length=1,
        description="The engines to build, evaluate and judge, each named `<backend>-<precision>`.",
        json_schema_extra={"allowed": "list of names, see below"},
    )
    ingest: IngestParams
    validate_: ValidateParams = Field(alias="validate")  # pydantic models have a method `validate`
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
        """Refuse a name that no backend knows: names of engines become folders and commands."""
        for engine in engines:
            try:
                parse_engine(engine)
            except BadInput as unknown:
                raise ValueError(str(unknown)) from unknown
        if len(set(engines)) < len(engines):
            raise ValueError("an engine is listed twice")
        return engines

    @field_validator("fuse")
    @classmethod
    def _keeps_branches_that_there_are(cls, fuse: FuseParams, info: ValidationInfo) -> FuseParams:
        train = info.data.get("train")
        if fuse.branches == "fold" or train is None:
            return fuse
        if train.expand.block == "none" or train.expand.mode == "online" or train.qat.epochs:
            raise ValueError(
                "fuse.branches: keep has no branches to keep where train.expand.block is none, "
                "train.expand.mode is online, or train.qat folds them; set fuse.branches to fold"
            )
        return fuse

    @field_validator("gate")
    @classmethod
    def _requires_forms_that_exist(cls, gate: GateParams, info: ValidationInfo) -> GateParams:
        forms = ("fuse", "export", *info.data.get("engines", gate.required))
        for name in gate.required:
            if name not in forms:
                near = did_you_mean(name, forms)
                raise ValueError(f"gate.required: no form is called '{name}'.{near} There are {', '.join(forms)}")
        return gate


def load_params(path: Path) -> Params:
    """Return the checked params; raise BadInput with a line for each fault, which names the key."""
    content = params_as_json(path)
    try:
        return Params.model_validate_json(content, strict=True)
    except ValidationError as faults:
        lines = sentences(faults, Params)
        raise BadInput(f"{path} has {len(lines)} fault(s):\n  " + "\n  ".join(lines)) from faults
