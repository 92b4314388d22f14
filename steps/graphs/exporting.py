"""Export a network as an ONNX graph: uint8 images in, logits out; metadata has class names and preprocessing."""

import json
import warnings

import onnx
import onnxsim
import torch
from torch import nn

from steps.errors import BadInput
from steps.graphs.normalisation import fold_normalisation
from steps.models.normalised import normalised
from steps.reports.card import Card

INPUT, OUTPUT, BATCH = "images_NHWC_u8", "logits_NK", "N"
CLASS_NAMES, PREPROCESSING = "class_names", "preprocessing"  # keys of the metadata; both hold JSON


class InvalidGraph(BadInput):
    """The exported graph is no valid ONNX; the message has the checker's reason."""


def to_onnx(network: nn.Module, card: Card, opset: int) -> onnx.ModelProto:
    """Return the graph of the network with its normalisation inside, for any number of images.

    The normalisation is folded into the first convolutions where their padding allows that.
    """
    module = normalised(network, card.preprocessing).eval()
    size = card.preprocessing.size
    example_NHWC_u8 = torch.zeros(
        2, size, size, 3, dtype=torch.uint8
    )  # two images: torch.export would fix a batch of one
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the exporter, not about the network
        program = torch.onnx.export(
            module,
            (example_NHWC_u8,),
            dynamo=True,
            verbose=False,
            external_data=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
        )
    assert program is not None
    return fold_normalisation(program.model_proto)


def simplified(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph simplified by onnxsim, without onnxsim's own check: the certificate is stricter."""
    simple, _ = onnxsim.simplify(graph)
    result: onnx.ModelProto = simple
    return result


def described(graph: onnx.ModelProto, card: Card) -> onnx.ModelProto:
    """Return the graph with class names and preprocessing in its metadata, and without paths of source files."""
    clean = onnx.ModelProto()
    clean.CopyFrom(graph)
    _strip(clean)
    onnx.helper.set_model_props(
        clean,
        {
            CLASS_NAMES: json.dumps(list(card.class_names)),
            PREPROCESSING: card.preprocessing.model_dump_json(),
        },
    )
    return clean


def checked_bytes(graph: onnx.ModelProto) -> bytes:
    """Return the graph's bytes, the same for the same graph, or raise InvalidGraph if ONNX finds a fault."""
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as fault:
        raise InvalidGraph(f"the exported graph is no valid ONNX: {' '.join(str(fault).split())[:300]}") from fault
    content: bytes = graph.SerializeToString(deterministic=True)
    return content


def _strip(message: object) -> None:
    """Remove doc strings and metadata (source paths, stack traces) from a model and everything inside it."""
    for descriptor, value in list(message.ListFields()):  # type: ignore[attr-defined]
        if descriptor.name in ("metadata_props", "doc_string"):
            message.ClearField(descriptor.name)  # type: ignore[attr-defined]
        elif descriptor.message_type is not None and descriptor.name != "raw_data":
            for inner in value if hasattr(value, "__len__") else [value]:
                _strip(inner)
