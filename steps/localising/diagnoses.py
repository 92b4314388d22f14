"""The usual cause of a drift, from the first tensor that drifts and the kind of the drift."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steps.engines.sanity import LARGEST
from steps.localising.drift import LOGITS, Drift
from steps.reports.card import Precision

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Conv2d", "Linear", "Convolution", "GroupConvolution")
ACTIVATIONS = ("Relu", "ReLU", "Clip", "HardSwish", "Sigmoid", "Mul", "Multiply", "SEModule")


@dataclass(frozen=True)
class Finding:
    """The first drift of a form, and all compared tensors in their order."""

    first: Drift
    compared: Sequence[Drift]
    form: str
    precision: Precision

    @property
    def layers_before(self) -> int:
        """Return how many layers with weights come before the first drift."""
        before = self.compared[: self.compared.index(self.first)]
        return sum(bool(drift.layer) or drift.operator in LAYERS for drift in before)

    @property
    def is_layer(self) -> bool:
        """Tell whether the first drift is at a layer with weights."""
        return bool(self.first.layer) or self.first.operator in LAYERS


def diagnosis(finding: Finding) -> str:
    """Return the first sentence of DIAGNOSES that fits."""
    return next(sentence for fits, sentence in DIAGNOSES if fits(finding))


def _overflows(finding: Finding) -> bool:
    return finding.precision == "fp16" and (finding.first.largest >= LARGEST["fp16"] or not finding.first.finite)


def _is_last(finding: Finding) -> bool:
    return finding.first.name == LOGITS or finding.first is finding.compared[-1]


# (does the finding fit?, usual cause); the first cause that fits is shown
DIAGNOSES: tuple[tuple[Callable[[Finding], bool], str], ...] = (
    (
        _overflows,
        "A value lies beyond float16's end at 65504. Keep this layer in fp32, or build the engine in fp32.",
    ),
    (
        lambda at: not at.first.finite,
        "The form gives a value that is not finite here: a division by zero, a logarithm or root of a negative "
        "number, or weights that are not finite.",
    ),
    (
        lambda at: at.first.constant,
        "The form gives the same values for all images here: the tensor underflows to zero, its weights are zero, "
        "or only the first image of a batch is computed.",
    ),
    (
        lambda at: not at.layers_before and not at.is_layer,
        "The input differs before any layer: mean, deviation, the scale 1/255, channel order or layout (NHWC, "
        "NCHW).",
    ),
    (
        lambda at: not at.layers_before and at.precision == "int8",
        "The first layer differs beyond int8's steps: the calibration range of the input does not fit these "
        "images. Calibrate on training images of this data.",
    ),
    (
        lambda at: not at.layers_before,
        "The first layer differs: channels swapped (RGB, BGR), a normalisation folded wrongly into it (a mean "
        "before zero padding), or its kernel or norm.",
    ),
    (
        lambda at: at.precision == "int8",
        "The calibration range of this tensor does not fit these images, or one channel is far larger than the "
        "others. Calibrate on more training images, or keep this layer in fp32.",
    ),
    (
        _is_last,
        "Only the last layer differs: class order, class_num, a bias, weights of another head, or a softmax that "
        "is applied twice.",
    ),
    (
        lambda at: at.first.operator in ("Resize", "Interpolate", "Upsample"),
        "A resize inside the network is computed differently: half pixels, antialias, or an opset with another "
        "meaning of Resize.",
    ),
    (
        lambda at: at.form == "fuse",
        "The fold of this site is wrong: a branch, an eps, statistics of another norm, or an activation or "
        "attention behind the site. data/fuse/certificate.json has the sites.",
    ),
    (
        lambda at: at.first.operator in ACTIVATIONS,
        "An activation or an attention (squeeze-and-excitation) differs, or was left out.",
    ),
    (
        lambda at: at.precision != "fp32",
        "The precision is too low for this layer: sums cancel, or values fall below the smallest number. Keep "
        "this layer in fp32.",
    ),
    (
        lambda at: at.is_layer,
        "This layer has other weights, or another stride, padding, dilation or number of groups.",
    ),
    (lambda _: True, "This backend computes the operator differently."),
)
NOTHING_DIFFERS = "The scores of both forms do not differ either: nothing is wrong between the two forms."
GRAPH_IS_RIGHT = (
    "The graph that the engine was built from is right; the engine itself could not be read. If evaluate's scores "
    "differ, the builder or the compiler is at fault."
)
NOTHING_DRIFTS = (
    "On the same pixels, both forms compute the same. So the inputs or the stored scores differ, not the network: "
    "another preprocessing or order of images in evaluate, a batch that is mixed up, or scores of another run. "
    "Evaluate both forms again."
)
