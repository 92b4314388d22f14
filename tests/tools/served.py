"""Read a Triton configuration for the tests."""

from typing import Any

from google.protobuf import json_format, text_format

from tools.triton_config import model_config


def read_config(text: str) -> dict[str, Any]:
    """Return the contents of a config.pbtxt, with enums by name and int64 as text."""
    message = text_format.Parse(text, model_config()())
    return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))
