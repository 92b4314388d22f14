"""Write config.pbtxt with the schema of Triton's model configuration, as far as this project uses it.

Field names, numbers and types are those of the public `inference.ModelConfig` (triton-inference-server/common,
protobuf/model_config.proto). protobuf refuses a field that is not in MESSAGES, and a value of another type.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, text_format

PACKAGE = "inference"
Enum = dict[str, int]
ENUMS: dict[str, Enum] = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP16": 10, "TYPE_FP32": 11},
    "ModelInstanceGroup.Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}
MESSAGES: dict[str, dict[str, tuple[int, str]]] = {  # message -> field -> (its number, its type)
    "ModelInput": {"name": (1, "string"), "data_type": (2, "DataType"), "dims": (4, "repeated int64")},
    "ModelOutput": {
        "name": (1, "string"),
        "data_type": (2, "DataType"),
        "dims": (3, "repeated int64"),
        "label_filename": (4, "string"),
    },
    "ModelInstanceGroup": {"count": (2, "int32"), "kind": (4, "ModelInstanceGroup.Kind")},
    "ModelDynamicBatching": {
        "preferred_batch_size": (1, "repeated int32"),
        "max_queue_delay_microseconds": (2, "uint64"),
    },
    "ModelParameter": {"string_value": (1, "string")},
    "ModelConfig": {
        "name": (1, "string"),
        "platform": (2, "string"),
        "max_batch_size": (4, "int32"),
        "input": (5, "repeated ModelInput"),
        "output": (6, "repeated ModelOutput"),
        "instance_group": (7, "repeated ModelInstanceGroup"),
        "default_model_filename": (8, "string"),
        "dynamic_batching": (11, "ModelDynamicBatching"),
        "parameters": (14, "map ModelParameter"),
        "backend": (17, "string"),
    },
}
_Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "string": _Field.TYPE_STRING,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "uint64": _Field.TYPE_UINT64,
}


def config_text(config: dict[str, Any]) -> str:
    """Return the text of config.pbtxt; raise ValueError for a field or value that the schema does not allow."""
    try:
        message = json_format.ParseDict(config, model_config()())
    except json_format.ParseError as fault:
        raise ValueError(str(fault)) from fault
    return str(text_format.MessageToString(message))


def model_config() -> Any:
    """Return the protobuf message class of the schema."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_schema())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.ModelConfig"))


def _schema() -> Any:
    schema = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package=PACKAGE, syntax="proto3")
    messages = {name: schema.message_type.add(name=name) for name in MESSAGES}
    for path, values in ENUMS.items():
        owner, _, name = path.rpartition(".")
        enum = (messages[owner] if owner else schema).enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, fields in MESSAGES.items():
        for field, (number, kind) in fields.items():
            _add_field(messages[name], f".{PACKAGE}.{name}", field, number, kind)
    return schema


def _add_field(message: Any, full_name: str, name: str, number: int, kind: str) -> None:
    modifier, _, type_name = kind.rpartition(" ")
    field = message.field.add(name=name, number=number)
    field.label = _Field.LABEL_REPEATED if modifier else _Field.LABEL_OPTIONAL
    if modifier == "map":  # protobuf stores a map as a list of pairs
        pair = message.nested_type.add(name=f"{name.capitalize()}Entry")
        pair.options.map_entry = True
        _add_field(pair, "", "key", 1, "string")
        _add_field(pair, "", "value", 2, type_name)
        field.type, field.type_name = _Field.TYPE_MESSAGE, f"{full_name}.{pair.name}"
    elif type_name in SCALARS:
        field.type = SCALARS[type_name]
    else:
        field.type = _Field.TYPE_ENUM if type_name in ENUMS else _Field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{type_name}"
