"""card.json: what a model artifact says of itself, so that its consumer needs no other file."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from steps.reports.base import JsonFile

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Interpolation = Literal["bilinear", "bicubic"]
Takes = Literal["sized", "any"]  # images at the network's size; or of any size, which the engine resizes and crops


class Preprocessing(JsonFile):
    """From a decoded RGB image to the network's input; the normalisation is inside every model form.

    The short side is resized to `resize` pixels (PIL, antialiased, along the width and then along the height), the
    centre cropped to `size` x `size`, and the network itself computes (x - 255 mean) / (255 std) per channel, in
    RGB order. Lengths are rounded half to even, the crop begins at the whole pixel before its place.
    """

    size: int
    resize: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Expansion(JsonFile):
    """The multi-branch blocks that a network holds, enough to rebuild its modules."""

    block: str
    where: str
    mode: str
    norms: Literal["own", "absorbed"] = "own"  # absorbed: gone into the convolutions before them, where they could


class Device(JsonFile):
    """What an engine needs of the machine that runs it."""

    kind: Literal["cpu", "cuda"]
    compute_capabilities: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()  # of the CPU that compiled code was made for, such as AVX512
    runtime: str = ""
    batch: tuple[int, int, int] | None = None  # least, best and most images at once; null: any number
    threads: Annotated[int, Field(ge=1)] | None = (
        None  # of the CPU, that it is to run on; null: as many as the runtime likes
    )


class Card(JsonFile):
    """The identity of a model form. `made_from` is the `artifact` checksum of the form it was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    form: str  # train, fuse, export, or the engine's name
    arch: str
    class_num: int
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    takes: Takes = "sized"
    max_side: int | None = None  # of an engine that takes any size: pixels of the longest side that it serves
    precision: Precision = "fp32"
    bottleneck: int | None = None  # features between the network's own and the last layer
    expansion: Expansion | None = None
    fused: bool = False
    backend: str = "pytorch"
    files: dict[str, str]  # file name -> sha256, every file of the artifact but card.json
    artifact: str  # sha256 over `files`
    made_from: str | None = None
    versions: dict[str, str] = {}
    device: Device = Device(kind="cpu")

    @model_validator(mode="after")
    def _hang_together(self) -> Self:
        if len(self.class_names) != self.class_num:
            raise ValueError(f"class_num is {self.class_num}, and there are {len(self.class_names)} class_names")
        if self.takes == "any" and (self.max_side is None or self.max_side < 1):
            raise ValueError("an engine that takes any size must say in max_side up to which")
        return self
