"""An engine that cannot be built here is reported before the first stage; an engine that exists passes."""

from importlib.util import find_spec

import pytest

from flows import engines, graph
from steps.errors import BadInput
from tests.flows.toy import Line

SAID = r"^engines: tensorrt-fp16 cannot be built here: the package tensorrt is not installed; run `make tensorrt`"


@pytest.fixture(autouse=True)
def _without_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "tensorrt" else find_spec(name))


def check(until: str | None = None) -> None:
    engines.must_be_buildable(graph.plan(until=until))


def test_a_package_that_is_missing_is_said_with_how_to_get_it(line: Line) -> None:
    line.engines("onnxruntime-fp32", "tensorrt-fp16")
    with pytest.raises(BadInput, match=SAID + r".*, or remove it from `engines`\.$"):
        check()
    check(until="split")  # these stages build nothing
    line.engines("onnxruntime-fp32", "openvino-fp32")
    check()


def test_steps_in_images_need_no_package_here(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.engines("tensorrt-fp16")
    monkeypatch.setenv("STEPS_ON", "docker")
    check()


def test_an_engine_that_was_built_elsewhere_is_let_through_until_it_would_be_built_again(line: Line) -> None:
    line.engines("onnxruntime-fp32", "tensorrt-fp16")
    line.dvc("repro", "build")
    check()
    line.write("source", "others\n")
    with pytest.raises(BadInput, match=SAID):
        check()
