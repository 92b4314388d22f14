"""Engines that take images of any size: params.yaml asks for them, and their cards say how to feed them."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from PIL import Image

from steps.backends.runner import open_runner
from steps.build import AUTO, _max_side, build
from steps.engines.contract import CannotBuild, Images, TooLarge, WrongImages
from steps.engines.names import BACKENDS, ENGINES, parse_engine
from steps.errors import Refused
from steps.evaluate import evaluate
from steps.images.manifest import read_manifest, write_manifest
from steps.images.preprocessing import preprocess
from steps.params.build import BatchProfile, BuildParams
from steps.reports.build import BuildReport
from steps.reports.card import Card
from steps.reports.evaluate import FormReport
from tests.backends.tiny import ANY_CLASS, HOW, onnx_model, weights, write_exported, write_images
from tests.graphs.test_preprocessing import noise, photograph

MAX_SIDE = 128
GRAPH = ANY_CLASS.model_copy(
    update={"preprocess": "graph", "max_side": MAX_SIDE, "batch": BatchProfile(min=1, opt=2, max=4)}
)
ON_CPU = [
    engine
    for engine in ENGINES
    if BACKENDS[parse_engine(engine)[0]].device == "cpu"
    and not engine.startswith("aotinductor")  # compiling is slow: test_aotinductor.py does it once
    and engine != "openvino-bf16"  # build refuses this engine
]
# Relative to the largest logit, where a few pixels differ by one level (1/64 of a standard deviation). In int8 one
# step is 1/256.
A_LEVEL = {"fp32": 5e-3, "fp16": 5e-3, "int8": 2e-2}
HOWS = ("auto", "graph")
SHAPES = [(31, 50), (100, 17), (16, 16), (3, 128)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an exported model and each CPU engine, once as graph-ENGINE and once as host-ENGINE."""
    root = tmp_path_factory.mktemp("any")
    write_exported(root / "model", onnx_model(weights()))
    write_images(root)
    for engine in ON_CPU:
        built(root, engine, GRAPH, root / f"graph-{engine}")
        built(root, engine, ANY_CLASS, root / f"host-{engine}")
    return root


def built(root: Path, engine: str, params: BuildParams, out: Path) -> Path:
    out.mkdir()
    build(params, 0, engine, root / "model", root / "ingest", root / "split", out)
    return out


def sized(images_NHWC_u8: Images) -> Images:
    return np.stack([preprocess(Image.fromarray(image), HOW) for image in images_NHWC_u8])


@pytest.mark.parametrize("engine", ON_CPU)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_scores_an_image_as_the_model_scores_the_references_pixels(
    root: Path, engine: str, shape: tuple[int, int]
) -> None:
    anywhere, at_its_size = (open_runner(root / f"{kind}-{engine}")[0] for kind in ("graph", "host"))
    images_NHWC_u8 = np.concatenate([photograph(*shape), noise(*shape, count=2)])
    found_NK, wanted_NK = anywhere(images_NHWC_u8), at_its_size(sized(images_NHWC_u8))
    assert np.abs(found_NK - wanted_NK).max() <= A_LEVEL[engine.rpartition("-")[2]] * np.abs(wanted_NK).max()
    assert np.ptp(wanted_NK, axis=0).max() > 5e-2 * np.abs(wanted_NK).max(), (
        "they must differ for this to say much"
    )


@pytest.mark.parametrize("engine", ON_CPU)
def test_an_image_at_the_networks_size_is_one_of_any_size(root: Path, engine: str) -> None:
    anywhere, at_its_size = (open_runner(root / f"{kind}-{engine}")[0] for kind in ("graph", "host"))
    images_NHWC_u8 = noise(16, 16, count=3)
    wanted_NK = at_its_size(images_NHWC_u8)
    np.testing.assert_allclose(anywhere(images_NHWC_u8), wanted_NK, rtol=0, atol=1e-5 * np.abs(wanted_NK).max())


def test_the_card_says_what_an_engine_takes(root: Path) -> None:
    anywhere, at_its_size = (Card.read(root / f"{kind}-onnxruntime-fp32/card.json") for kind in ("graph", "host"))
    assert (anywhere.takes, anywhere.max_side) == ("any", MAX_SIDE)
    assert (at_its_size.takes, at_its_size.max_side) == ("sized", None)
    assert anywhere.preprocessing == at_its_size.preprocessing == Card.read(root / "model/card.json").preprocessing


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_resize_and_crop_are_float32_whatever_the_precision(root: Path, precision: str) -> None:
    full, lower = (
        [
            node
            for node in onnx.load(root / f"graph-onnxruntime-{each}/model.onnx").graph.node
            if node.name.startswith("preprocess/")
        ]
        for each in ("fp32", precision)
    )
    assert full == lower and len(full) > 50


@pytest.mark.parametrize("engine", ON_CPU)
def test_an_image_beyond_the_largest_side_is_refused_with_both_ways_out(root: Path, engine: str) -> None:
    run, _ = open_runner(root / f"graph-{engine}")
    run(noise(MAX_SIDE, 20))
    with pytest.raises(
        TooLarge, match=r"up to 128 pixels a side, .* 129 x 20; raise build.max_side to 129, or .*: host"
    ):
        run(noise(MAX_SIDE + 1, 20))


@pytest.mark.parametrize("engine", ON_CPU)
@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (1, 0, 8, 3), (1, 8, 0, 3), (1, 8, 8, 4), (8, 8, 3)])
def test_what_is_no_image_of_any_size_is_refused(root: Path, engine: str, shape: tuple[int, ...]) -> None:
    run, _ = open_runner(root / f"graph-{engine}")
    with pytest.raises(WrongImages, match=r"of the shape N x any x any x 3, and was given uint8 of"):
        run(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("engine", ON_CPU)
@pytest.mark.parametrize("shape", [(1, 1), (1, MAX_SIDE), (MAX_SIDE, 1)])
def test_an_image_of_one_pixel_or_one_line_has_scores(root: Path, engine: str, shape: tuple[int, int]) -> None:
    anywhere, at_its_size = (open_runner(root / f"{kind}-{engine}")[0] for kind in ("graph", "host"))
    image_NHWC_u8 = noise(*shape)
    wanted_NK = at_its_size(sized(image_NHWC_u8))
    tolerance = A_LEVEL[engine.rpartition("-")[2]] * np.abs(wanted_NK).max()
    assert np.abs(anywhere(image_NHWC_u8) - wanted_NK).max() <= tolerance


def test_openvino_builds_none_in_bfloat16_which_would_take_the_resize_along(root: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"computes the resize in bfloat16 too, .* build\.preprocess: host"):
        built(root, "openvino-bf16", GRAPH, tmp_path / "graph")
    built(root, "openvino-bf16", GRAPH.model_copy(update={"preprocess": "host"}), tmp_path / "host")


@pytest.mark.parametrize(("max_side", "range_said"), [(15, "16 to "), (2_000_000, "16 to 13")])
def test_a_side_that_no_image_or_no_integer_fits_is_refused_by_its_key(
    root: Path, tmp_path: Path, max_side: int, range_said: str
) -> None:
    params = GRAPH.model_copy(update={"max_side": max_side})
    with pytest.raises(
        Refused, match=rf"build.max_side is {max_side}, and with this model it may be {range_said}"
    ):
        built(root, "onnxruntime-fp32", params, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_backend_that_cannot_resize_is_left_alone_by_auto_and_refused_by_graph(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(AUTO, "openvino")
    left = built(root, "openvino-fp32", GRAPH.model_copy(update={"preprocess": "auto"}), tmp_path / "auto")
    assert Card.read(left / "card.json").takes == "sized"
    with pytest.raises(Refused, match=r"openvino has no engine that resizes; set auto or host"):
        built(root, "openvino-fp32", GRAPH, tmp_path / "graph")


@pytest.mark.parametrize("backend", ["aotinductor", "aotinductor-cuda"])
def test_what_aotinductor_compiles_takes_images_at_the_network_s_size_on_a_gpu_too(backend: str) -> None:
    assert _max_side(GRAPH.model_copy(update={"preprocess": "auto"}), backend) is None
    with pytest.raises(CannotBuild, match=f"{backend} has no engine that resizes; set auto or host"):
        _max_side(GRAPH, backend)


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine.startswith("tensorrt-rtx")])
def test_on_a_gpu_an_engine_takes_any_size_unless_host_is_said(root: Path, engine: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    by = {how: GRAPH.model_copy(update={"preprocess": how}) for how in ("auto", "host")}
    cards = {how: Card.read(built(root, engine, by[how], tmp_path / how) / "card.json") for how in by}
    assert {how: (card.takes, card.max_side) for how, card in cards.items()} == {
        "auto": ("any", MAX_SIDE),
        "host": ("sized", None),
    }


def test_for_a_gpu_without_float32_products_auto_leaves_the_resize_out(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    turing = {how: GRAPH.model_copy(update={"preprocess": how, "compute_capabilities": ("7.5",)}) for how in HOWS}
    out = built(root, "tensorrt-rtx-fp16", turing["auto"], tmp_path / "auto")
    assert Card.read(out / "card.json").takes == "sized"
    with pytest.raises(Refused, match=r"cannot build the engine: .*preprocess/MatMul"):
        built(root, "tensorrt-rtx-fp16", turing["graph"], tmp_path / "graph")


def in_many_sizes(root: Path) -> list[Path]:
    """Replace the test images by larger images, whose sizes mostly differ; return them in order."""
    path = root / "split/manifest.parquet"
    manifest = read_manifest(path)
    files = [root / "files" / name for name in manifest.filter(pl.col("split") == "test")["name"]]
    shapes = [SHAPES[number // 2 % len(SHAPES)] for number in range(len(files))]
    for number, (file, (width, height)) in enumerate(zip(files, shapes, strict=True)):
        Image.fromarray(np.roll(photograph(width, height)[0], number, axis=2)).save(file)
    known = {file.name: file.read_bytes() for file in files}
    changed = [
        row
        | (
            {"checksum": hashlib.sha256(known[row["name"]]).hexdigest(), "length": len(known[row["name"]])}
            if row["name"] in known
            else {}
        )
        for row in manifest.rows(named=True)
    ]
    write_manifest(pl.DataFrame(changed, schema=manifest.schema), path)
    return files


def evaluated(root: Path, engine: str, out: Path) -> pl.DataFrame:
    out.mkdir()
    evaluate(engine.partition("-")[2], root / engine, root / "ingest", root / "split", out)
    return pl.read_parquet(out / f"{engine.partition('-')[2]}.parquet")


@pytest.fixture
def other_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_exported(tmp_path / "model", onnx_model(weights()))
    write_images(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_evaluate_feeds_it_the_images_as_they_are_in_their_order(other_root: Path) -> None:
    for kind, params in (("graph", GRAPH), ("host", ANY_CLASS)):
        built(other_root, "onnxruntime-fp32", params, other_root / f"{kind}-onnxruntime-fp32")
    files = in_many_sizes(other_root)
    found, wanted = (
        evaluated(other_root, f"{kind}-onnxruntime-fp32", other_root / kind) for kind in ("graph", "host")
    )
    assert found["id"].to_list() == wanted["id"].to_list() == [file.name for file in files]
    found_NK, wanted_NK = np.array(found["scores"].to_list()), np.array(wanted["scores"].to_list())
    assert np.abs(found_NK - wanted_NK).max() <= A_LEVEL["fp32"] * np.abs(wanted_NK).max()
    assert np.abs(found_NK - wanted_NK[::-1]).max() > 5e-2 * np.abs(wanted_NK).max(), "another order would be seen"


def of_sides(root: Path, sides: dict[str, tuple[int, int]]) -> None:
    """Write these sides for these images into the split's manifest, and the largest allowed for the rest."""
    path = root / "split/manifest.parquet"
    found = [sides.get(name, (7, MAX_SIDE)) for name in read_manifest(path)["name"]]
    columns = {
        name: pl.Series([each[place] for each in found], dtype=pl.Int32)
        for place, name in enumerate(("width", "height"))
    }
    write_manifest(read_manifest(path).with_columns(**columns), path)


def test_build_refuses_what_evaluate_would_with_the_side_that_would_do(other_root: Path) -> None:
    """build refuses before it starts: otherwise evaluate would refuse a finished engine hours later."""
    of_sides(other_root, {"004.png": (MAX_SIDE + 1, 7), "009.png": (3, 300), "000.png": (9000, 9000)})
    out = other_root / "graph-onnxruntime-fp32"
    message = (
        r"^onnxruntime-fp32 takes images of up to 128 pixels a side, and was given 009\.png, of 3 x 300 "
        r"\(the largest; 2 of 8 test images are too large\); raise build\.max_side to 300, or build the engine "
        r"with build\.preprocess: host\.$"
    )
    with pytest.raises(Refused, match=message) as refusal:
        built(other_root, "onnxruntime-fp32", GRAPH, out)
    assert isinstance(refusal.value.report, BuildReport) and not list(out.iterdir())
    out.rmdir()
    built(other_root, "onnxruntime-fp32", GRAPH.model_copy(update={"max_side": 300}), out)
    assert evaluated(other_root, "graph-onnxruntime-fp32", other_root / "out").height == 8
    built(other_root, "onnxruntime-fp32", ANY_CLASS, other_root / "host")  # takes any image size


def test_evaluate_names_the_image_that_is_too_large_before_it_runs(other_root: Path) -> None:
    built(other_root, "onnxruntime-fp32", GRAPH, other_root / "graph-onnxruntime-fp32")
    of_sides(other_root, {"009.png": (MAX_SIDE + 1, 7)})
    message = r"given 009\.png, of 129 x 7 \(the largest; 1 of 8 test images are too large\)"
    with pytest.raises(Refused, match=message) as refusal:
        evaluated(other_root, "graph-onnxruntime-fp32", other_root / "out")
    assert isinstance(refusal.value.report, FormReport) and refusal.value.report.form == "onnxruntime-fp32"
