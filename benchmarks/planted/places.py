"""Where a fault can be planted: in a step's own work, an artifact, what one form reads, what evaluate wrote.

Each place is a context in which the line is driven; with `unchanged` for its change, nothing is planted and the
line takes the very same path.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Any, NamedTuple
from unittest import mock

import onnx
import polars as pl
from safetensors.torch import load, save

from benchmarks.planted.line import Line
from steps.engines.contract import Built, Logits, Order
from steps.files import sha256
from steps.fuse import FORMS
from steps.images.evaluation_cache import FOLDER
from steps.metrics.recall import predicted, summary
from steps.reports.artifact import CARD, write_card
from steps.reports.card import Card
from steps.reports.evaluate import FormReport
from steps.tracing.copies import copied

Change = Callable[[Any], Any]
Planting = AbstractContextManager[None]
WEIGHTS, GRAPH = "model.safetensors", "model.onnx"


class Place(NamedTuple):
    """A key of PLACES, and the form, backend or file that is meant."""

    kind: str
    item: str = ""


def planted(line: Line, place: Place, change: Change) -> Planting:
    """Return the context in which the change is in the line; artifacts are changed in the line's own folders."""
    return PLACES[place.kind](line, place.item, change)


@contextmanager
def _replaced(target: str, wrap: Callable[[Any], Any]) -> Iterator[None]:
    """Put `wrap(function)` in the place of the function that a step calls."""
    module, name = target.rsplit(".", 1)
    with mock.patch(target, wrap(getattr(import_module(module), name))):
        yield


def _in_fold(_: Line, __: str, change: Change) -> Planting:
    """The trained network that fuse folds is another than the one it is compared with."""
    return _replaced("steps.fuse.fold", lambda fold: lambda model, *rest: fold(change(copied(model)), *rest))


def _in_fuse(_: Line, __: str, change: Change) -> Planting:
    """The plain network, before its certificate."""
    return _replaced("steps.fuse.absorb_norms", lambda absorb: lambda *given: change(absorb(*given)))


@contextmanager
def _in_keep(_: Line, __: str, change: Change) -> Iterator[None]:
    """The network that keeps its branches, before its certificate."""
    kept = FORMS["keep"]
    with mock.patch.dict(FORMS, keep=kept._replace(make=lambda *given: change(kept.make(*given)))):
        yield


def _in_export(_: Line, __: str, change: Change) -> Planting:
    """The ONNX graph, before its certificate."""
    return _replaced("steps.export.to_onnx", lambda to_onnx: lambda *given: change(to_onnx(*given)))


@contextmanager
def _in_build(line: Line, backend: str, change: Change) -> Iterator[None]:
    """The graph that the backend makes an engine of, already in its precision; no engine is taken from a cache."""

    def wrap(build: Callable[[Order], Built]) -> Callable[[Order], Built]:
        def wrong(order: Order) -> Built:
            onnx.save(change(onnx.load(order.graph)), order.graph)
            return build(order)

        return wrong

    with (
        mock.patch("steps.building.cache.FOLDER", line.root / "builds"),
        _replaced(f"steps.backends.{backend}.build", wrap),
    ):
        yield


def _in_resize(_: Line, __: str, change: Change) -> Planting:
    """The preprocessing that an engine for images of any size is given to hold."""

    def wrap(prepend: Callable[..., None]) -> Callable[..., None]:
        return lambda path, how, max_side: prepend(path, change(how), max_side)

    return _replaced("steps.building.engine.prepend_preprocessing", wrap)


def _in_package(_: Line, __: str, change: Change) -> Planting:
    """The compiled code of AOTInductor, once it is loaded."""
    return _replaced("torch._inductor.aoti_load_package", lambda opens: lambda *given: change(opens(*given)))


def _in_runner(_: Line, __: str, change: Change) -> Planting:
    """What an engine answers to images_NHWC_u8, while it is evaluated."""

    def wrap(opens: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(*given: Any, **named: Any) -> Any:
            run, card = opens(*given, **named)
            return change(run), card

        return wrong

    return _replaced("steps.evaluate.open_runner", wrap)


def _in_calibration(_: Line, __: str, change: Change) -> Planting:
    """The images that int8 is calibrated on."""
    return _replaced("steps.build.load_all", lambda load_all: lambda *given: change(load_all(*given)))


@contextmanager
def _in_preprocessing(_: Line, __: str, change: Change) -> Iterator[None]:
    """From a decoded image to the network's input, while one form is evaluated, which finds no images kept."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    with _replaced("steps.images.dataset.preprocess", change):
        yield
    shutil.rmtree(FOLDER, ignore_errors=True)  # what was kept now is the fault's


def _in_test_list(_: Line, __: str, change: Change) -> Planting:
    """The reading of the test images, while one form is evaluated."""
    return _replaced("steps.evaluate.read_manifest", change)


@contextmanager
def _in_graph(line: Line, form: str, change: Change) -> Iterator[None]:
    """The graph of a finished artifact, whose card is then made to fit."""
    path = line.model(form) / GRAPH
    onnx.save(change(onnx.load(path)), path)
    _seal(line, form)
    yield


@contextmanager
def _in_weights(line: Line, form: str, change: Change) -> Iterator[None]:
    """The tensors of a finished artifact, whose card is then made to fit."""
    path = line.model(form) / WEIGHTS
    path.write_bytes(save(change(load(path.read_bytes()))))
    _seal(line, form)
    yield


@contextmanager
def _in_card(line: Line, form: str, change: Change) -> Iterator[None]:
    """What an artifact says of itself."""
    path = line.model(form) / CARD
    change(Card.read(path)).write(path)
    yield


@contextmanager
def _in_file(line: Line, name: str, change: Change) -> Iterator[None]:
    """The bytes of a file."""
    path = line.root / name
    path.write_bytes(change(path.read_bytes()))
    yield


@contextmanager
def _in_figures(line: Line, form: str, change: Change) -> Iterator[None]:
    """FORM.json."""
    path = line.root / f"evaluate/{form}.json"
    change(FormReport.read(path)).write(path)
    yield


@contextmanager
def _in_scores(line: Line, form: str, change: Change) -> Iterator[None]:
    """FORM.parquet, and the figures that fit it: a lie that hangs together."""
    path = line.root / f"evaluate/{form}.parquet"
    scores: pl.DataFrame = change(pl.read_parquet(path))
    scores.write_parquet(path)
    report = FormReport.read(path.with_suffix(".json"))
    labels_N, predicted_N = scores["label"].to_numpy(), predicted(_logits(scores))
    assert report.card is not None
    figures = {"images": scores.height, "scores_checksum": sha256(path)}
    figures |= summary(predicted_N, labels_N, report.card.class_num)
    report.model_copy(update=figures).write(path.with_suffix(".json"))
    yield


@contextmanager
def _in_sure_scores(line: Line, form: str, change: Change) -> Iterator[None]:
    """FORM.parquet, where every form gives the same answers as before, and is far surer of them."""
    surer = pl.element() / 4 + 25 * (pl.element() == pl.element().max())
    scores = pl.col("scores").list.eval(surer).cast(pl.List(pl.Float32))
    for one in (*line.forms, "champion"):
        with _in_scores(line, one, lambda table: table.with_columns(scores)):
            pass
    with _in_scores(line, form, change):
        yield


@contextmanager
def _in_folders(line: Line, _: str, change: Change) -> Iterator[None]:
    """Whole folders, such as an engine of another run."""
    change(line)
    yield


# what a Place names -> its context, from the line, the item and the change
PLACES: dict[str, Callable[[Line, str, Change], Planting]] = {
    "fold": _in_fold,
    "fuse": _in_fuse,
    "keep": _in_keep,
    "export": _in_export,
    "build": _in_build,
    "resize": _in_resize,
    "package": _in_package,
    "runner": _in_runner,
    "calibration": _in_calibration,
    "preprocessing": _in_preprocessing,
    "test list": _in_test_list,
    "graph": _in_graph,
    "weights": _in_weights,
    "card": _in_card,
    "file": _in_file,
    "figures": _in_figures,
    "scores": _in_scores,
    "sure scores": _in_sure_scores,
    "folders": _in_folders,
}


def _seal(line: Line, form: str) -> None:
    folder = line.model(form)
    write_card(folder, Card.read(folder / CARD))


def _logits(scores: pl.DataFrame) -> Logits:
    flat: Logits = scores["scores"].explode().to_numpy()
    return flat.reshape(scores.height, -1)
