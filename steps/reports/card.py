"""card.json: the description of a model artifact. A consumer needs no other file to use the model."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from steps.reports.base import JsonFile

Precision = Literal["fp32", "fp16", "bf16", "int8"]
Interpolation = Literal["bilinear", "bicubic"]
Takes = Literal["sized", "any"]  # sized: images at the network's size; any: the engine itself resizes and crops


class Preprocessing(JsonFile):
    """From a decoded RGB image to the network's input; the normalisation is inside every model form.

    First, the short side is resized to `resize` pixels (PIL, antialiased, along the width and then along the
    height). Then the centre is cropped to `size` x `size`. The network itself computes (x - 255 mean) / (255 std)
    per channel, in RGB order. Lengths are rounded half to even; the position of the crop is rounded down.
    """

    size: int
    resize: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Expansion(JsonFile):
    """The multi-branch blocks of a network, with all that is needed to rebuild the modules."""

    block: str
    where: str
    mode: str
    norms: Literal["own", "absorbed"] = "own"  # absorbed: folded into the convolutions before them, where possible


class Device(JsonFile):
    """The requirements of an engine on the machine that runs it."""

    kind: Literal["cpu", "cuda"]
    compute_capabilities: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()  # CPU instructions that compiled code uses, such as AVX512
    runtime: str = ""
    batch: tuple[int, int, int] | None = (
        None  # least, best and largest number of images in a call; null: any number
    )
    threads: Annotated[int, Field(ge=1)] | None = None  # CPU threads of the engine; null: the runtime decides


class Card(JsonFile):
    """The identity of a model form. `made_from` is the `artifact` checksum of the form that it was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    form: str  # train, fuse, export, or the engine's name
    arch: str
    class_num: int
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    takes: Takes = "sized"
    max_side: int | None = None  # for takes = any: the longest side of an image, in pixels
    precision: Precision = "fp32"
    bottleneck: int | None = None  # features of the layer between the network and the last layer
    expansion: Expansion | None = None
    fused: bool = False
    backend: str = "pytorch"
    files: dict[str, str]  # file name -> sha256, every file of the artifact but card.json
    artifact: str  # sha256 over `files`
    made_from: str | None = None
    versions: dict[str, str] = {}
    device: Device = Device(kind="cpu")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.class_names) != self.class_num:
            raise ValueError(f"class_num is {self.class_num}, but there are {len(self.class_names)} class_names")
        if self.takes == "any" and (self.max_side is None or self.max_side < 1):
            raise ValueError("an engine that takes images of any size must name the longest side in max_side")
        return self
