"""localise, for engines whose tensors cannot be read, and for engines that cannot be opened here."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from steps.building.engine import Target, build_engine
from steps.engines.contract import BatchRange
from steps.engines.names import BACKENDS
from steps.errors import BadInput
from steps.reports.artifact import CARD, write_card
from steps.reports.card import Card
from tests.tools.drifting import build, make_exported
from tools.localise import localise, main


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_exported(tmp_path, monkeypatch)


@pytest.mark.parametrize("engine", ["tensorrt-rtx-fp16", "aotinductor-bf16"])
def test_an_engine_that_shows_nothing_is_not_acquitted_only_its_graph_is(root: Path, engine: str) -> None:
    backend, _, precision = engine.rpartition("-")
    build(root, lambda model: model, engine, backend=backend, precision=precision)
    found = localise(engine, root / "data", 4)
    assert found.first is None and len(found.compared) >= 8
    assert "the graph that it was built from was compared.)" in found.sentence
    assert "the builder or the compiler is at fault" in found.meaning and "not the network" not in found.sentence
    assert max(drift.error for drift in found.compared) > 1e-4, "it was compared with itself"


def test_an_int8_engine_that_shows_nothing_is_refused(root: Path) -> None:
    build(root, lambda model: model, "tensorrt-rtx-int8", backend="tensorrt-rtx", precision="int8")
    with pytest.raises(BadInput, match=r"build onnxruntime-int8, .* localise onnxruntime-int8"):
        localise("tensorrt-rtx-int8", root / "data", 4)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_engine_that_resizes_is_looked_into_and_of_a_hidden_one_the_rest_is_compared(
    root: Path, backend: str
) -> None:
    form, right = f"{backend}-fp32", root / "data/export/model"
    how = Card.read(right / CARD).preprocessing.model_copy(update={"resize": 21})
    write_card(right, Card.read(right / CARD).model_copy(update={"preprocessing": how}))
    shown = root / "data/build" / form
    shown.mkdir(parents=True)
    build_engine(Target(backend, "fp32", BatchRange(1, 1, 8), (), 64), right, shown, None)
    shutil.copyfile(right / "probes.npz", shown / "probes.npz")
    takes = {"takes": "any", "max_side": 64}
    card = Card.read(right / CARD)
    write_card(shown, card.model_copy(update={"form": form, "backend": backend, **takes}))
    found = localise(form, root / "data", 4)
    assert found.first is None and len(found.compared) > 5 and max(drift.error for drift in found.compared) < 1e-4
    assert "the engine's resize and crop differ" in found.meaning
    hidden = root / "data/build/tensorrt-rtx-fp32"
    shutil.copytree(right, hidden)
    write_card(hidden, card.model_copy(update={"form": "tensorrt-rtx-fp32", "backend": "tensorrt-rtx", **takes}))
    assert (
        "was compared, without its resize and crop.)" in localise("tensorrt-rtx-fp32", root / "data", 4).sentence
    )


def test_without_the_engines_package_its_graph_is_compared_and_the_sentence_says_what_to_install(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _without_package(monkeypatch, "tensorrt")
    build(root, lambda model: model, "tensorrt-fp16", backend="tensorrt", precision="fp16")
    monkeypatch.setattr("sys.argv", ["localise", "tensorrt-fp16"])
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith("localise: tensorrt-fp16: none of ")
    assert "the package no_such_package cannot be imported" in message and "make tensorrt" in message
    assert "the graph that it was built from was compared" in message
    assert (root / ".foldline/localise/tensorrt-fp16.html").is_file()


def test_an_int8_engine_without_its_package_is_refused_for_that_first(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_package(monkeypatch, "tensorrt")
    build(root, lambda model: model, "tensorrt-int8", backend="tensorrt", precision="int8")
    with pytest.raises(BadInput, match=r"no_such_package cannot be imported .* build onnxruntime-int8"):
        localise("tensorrt-int8", root / "data", 4)


def _without_package(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setitem(BACKENDS, backend, replace(BACKENDS[backend], package="no_such_package"))
