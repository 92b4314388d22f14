"""From the text of params.yaml to its values, as YAML 1.2 and DVC read them."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from steps.errors import BadInput

NUMBER_WITHOUT_POINT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")


def read_yaml(path: Path) -> str:
    """Return the file's content as JSON, or raise BadInput with the line that is not YAML."""
    if not path.is_file():
        raise BadInput(f"{path} is not there; run from the project's folder or name it with --params.")
    try:
        return json.dumps(yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader), default=str)
    except yaml.MarkedYAMLError as fault:
        line = f"line {fault.problem_mark.line + 1}: " if fault.problem_mark else ""
        raise BadInput(f"{path} is no YAML: {line}{fault.problem or fault.context}.") from fault
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as fault:  # no UTF-8, a date as key, a circle
        raise BadInput(f"{path} is no YAML: {' '.join(str(fault).split())}.") from fault


class _Loader(yaml.SafeLoader):
    """Refuse a key that stands twice, which PyYAML accepts; read 1e-4 as a number, which PyYAML reads as text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if key.value in first:
                problem = (
                    f"the key '{key.value}' is there already, in line {first[key.value]}; remove one of the two"
                )
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            if isinstance(key, yaml.ScalarNode):
                first[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", NUMBER_WITHOUT_POINT, list("-+0123456789"))
