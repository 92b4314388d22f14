"""Engine names: what params.yaml may list, checked without any runtime."""

import subprocess
import sys

import pytest

from steps.engines.names import BACKENDS, ENGINES, parse_engine
from steps.errors import BadInput


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_of_the_table_is_a_backend_and_a_precision(engine: str) -> None:
    backend, precision = parse_engine(engine)
    assert f"{backend}-{precision}" == engine
    assert precision in BACKENDS[backend].precisions


def test_a_backend_with_a_dash_in_its_name_is_told_from_its_precision() -> None:
    assert parse_engine("tensorrt-rtx-fp32") == ("tensorrt-rtx", "fp32")


@pytest.mark.parametrize(
    ("engine", "meant"),
    [("onnxruntime-fp23", "onnxruntime-fp32"), ("openvnio-fp32", "openvino-fp32"), ("pytorch-fp32", None)],
)
def test_an_engine_that_does_not_exist_is_refused_with_the_nearest(engine: str, meant: str | None) -> None:
    with pytest.raises(BadInput, match=f"there is no engine '{engine}'") as message:
        parse_engine(engine)
    assert meant is None or f"Did you mean '{meant}'?" in str(message.value)


def test_the_table_is_read_without_any_runtime() -> None:
    code = "import sys, steps.engines.names; print(*{name.partition('.')[0] for name in sys.modules})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    third_party = set(ran.stdout.split()) - set(sys.stdlib_module_names) - {"steps", "__main__"}
    heavy = {backend.package for backend in BACKENDS.values()} | {"numpy", "onnx"}
    assert not third_party & heavy
