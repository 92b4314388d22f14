"""tools.serve: a complete Triton model repository that describes the engine's inputs."""

import shutil
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from steps.errors import BadInput
from steps.reports.artifact import write_card
from steps.reports.card import Card, Device
from steps.reports.release import check_sums, write_sums
from tests.backends.tiny import NAMES
from tests.released import Released, seal_release
from tests.tools.served import read_config
from tools import serve as tool
from tools.serve import ServeOptions, serve

ENGINES = {"model": "onnxruntime_onnx", "onnxruntime-fp32": "onnxruntime_onnx", "openvino-fp32": "openvino"}
BATCH = {"model": [], "onnxruntime-fp32": [], "openvino-fp32": ["-1"]}  # if dims has the batch, Triton adds none
IMAGE = ["16", "16", "3"]
GPU = Device(
    kind="cuda", compute_capabilities=("8.6",), runtime="tensorrt 10.13", batch=(1, 8, 32), threads=2
)  # build writes the threads into every card


def config_of(folder: Path) -> dict[str, Any]:
    return read_config((folder / "config.pbtxt").read_text())


def change_engine(release: Path, engine: str, **changed: object) -> None:
    """Present the release's onnxruntime engine as a different engine, with a new seal."""
    folder = release / "engines/onnxruntime-fp32"
    (folder / "model.onnx").rename(folder / "model.engine") if changed["backend"] == "tensorrt" else None
    write_card(folder, Card.read(folder / "card.json").model_copy(update={"form": engine, **changed}))
    folder.rename(folder.with_name(engine))
    shutil.rmtree(release / "engines/openvino-fp32")
    seal_release(release, (engine,))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_repository_describes_the_engine(released: Released, tmp_path: Path, engine: str) -> None:
    folder = serve(released.folder, tmp_path / "models", ServeOptions(engine))
    assert folder == tmp_path / "models/classifier"
    config = config_of(folder)
    assert config["name"] == folder.name
    assert ENGINES[engine] in (config.get("platform"), config.get("backend"))
    assert config["input"] == [
        {"name": "images_NHWC_u8", "data_type": "TYPE_UINT8", "dims": BATCH[engine] + IMAGE}
    ]
    scores = {"name": "logits_NK", "data_type": "TYPE_FP32", "label_filename": "labels.txt"}
    assert config["output"] == [{**scores, "dims": [*BATCH[engine], "4"]}]
    assert (config.get("max_batch_size", 0) == 64) == ("dynamic_batching" in config) == (not BATCH[engine])
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]
    assert (folder / "labels.txt").read_text().splitlines() == list(NAMES)
    version = folder / "1"
    source = released.folder / ("model" if engine == "model" else f"engines/{engine}")
    assert (version / config["default_model_filename"]).is_file()
    for file in version.iterdir():
        assert file.read_bytes() == (source / file.name).read_bytes()
    assert {path.name for path in folder.iterdir() if path.is_dir()} == {"1"}


def test_the_names_in_it_are_those_that_the_runtime_knows(released: Released, tmp_path: Path) -> None:
    folder = serve(released.folder, tmp_path / "models", ServeOptions())
    config = config_of(folder)
    session = onnxruntime.InferenceSession(folder / "1/model.onnx", providers=["CPUExecutionProvider"])
    (source,), (scores,) = session.get_inputs(), session.get_outputs()
    assert [source.name, *map(str, source.shape[1:])] == [config["input"][0]["name"], *config["input"][0]["dims"]]
    assert [scores.name, *map(str, scores.shape[1:])] == [
        config["output"][0]["name"],
        *config["output"][0]["dims"],
    ]
    assert not isinstance(source.shape[0], int)  # any number of images in a batch, as Triton requires


def test_flags_are_written_where_triton_reads_them(released: Released, tmp_path: Path) -> None:
    wanted = ServeOptions("onnxruntime-fp32", name="digits_v2", max_batch=16, instances=3, threads=2)
    config = config_of(serve(released.folder, tmp_path / "models", wanted))
    assert config["name"] == "digits_v2" and config["max_batch_size"] == 16
    assert config["instance_group"] == [{"count": 3, "kind": "KIND_CPU"}]
    assert config["parameters"] == {"intra_op_thread_count": {"string_value": "2"}}


def test_threads_are_those_that_the_card_says_unless_a_flag_does(copy: Path, tmp_path: Path) -> None:
    change_engine(copy, "digits", backend="onnxruntime", device=Device(kind="cpu", threads=3))
    for wanted, threads in ((ServeOptions("digits"), "3"), (ServeOptions("digits", threads=2), "2")):
        config = config_of(serve(copy, tmp_path / "models", wanted))
        assert config["parameters"] == {"intra_op_thread_count": {"string_value": threads}}


def test_openvino_is_given_no_batch_size_that_triton_would_insist_on(released: Released, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="batches of exactly this size only"):
        serve(released.folder, tmp_path / "models", ServeOptions("openvino-fp32", max_batch=16))
    folder = serve(released.folder, tmp_path / "models", ServeOptions("openvino-fp32", threads=2))
    assert config_of(folder)["parameters"] == {"INFERENCE_NUM_THREADS": {"string_value": "2"}}
    assert "any number of images" in (folder / "README.md").read_text()


def test_an_engine_of_a_gpu_is_served_as_it_was_built(copy: Path, tmp_path: Path) -> None:
    change_engine(copy, "tensorrt-fp16", backend="tensorrt", device=GPU, takes="any", max_side=2048)
    folder = serve(copy, tmp_path / "models", ServeOptions("tensorrt-fp16"))
    config = config_of(folder)
    assert (config["platform"], config["default_model_filename"]) == ("tensorrt_plan", "model.engine")
    assert config["input"][0]["dims"] == ["-1", "-1", "3"]
    assert (config["max_batch_size"], config["dynamic_batching"]["preferred_batch_size"]) == (32, [8])
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_GPU"}]
    page = (folder / "README.md").read_text()
    assert "any height and width up to 2048" in page and "tensorrt 10.13" in page and "8.6" in page
    with pytest.raises(BadInput, match="at most 32 images at once"):
        serve(copy, tmp_path / "models", ServeOptions("tensorrt-fp16", max_batch=33))
    with pytest.raises(BadInput, match="no threads to count"):
        serve(copy, tmp_path / "models", ServeOptions("tensorrt-fp16", threads=1))


def test_an_engine_that_triton_does_not_serve_is_refused(copy: Path, tmp_path: Path) -> None:
    change_engine(copy, "tensorrt-rtx-fp16", backend="tensorrt-rtx", device=GPU)
    with pytest.raises(BadInput, match="Triton has no backend for tensorrt-rtx"):
        serve(copy, tmp_path / "models", ServeOptions("tensorrt-rtx-fp16"))
    assert not (tmp_path / "models").exists()


def test_an_engine_that_wants_several_images_at_once_is_refused(copy: Path, tmp_path: Path) -> None:
    change_engine(copy, "tensorrt-fp16", backend="tensorrt", device=GPU.model_copy(update={"batch": (4, 8, 32)}))
    with pytest.raises(BadInput, match=r"at least 4 images.*build\.batch\.min: 1"):
        serve(copy, tmp_path / "models", ServeOptions("tensorrt-fp16"))


def test_other_models_are_left_alone_and_an_earlier_one_is_replaced(released: Released, tmp_path: Path) -> None:
    models = tmp_path / "models"
    (models / "other").mkdir(parents=True)
    (models / "other/config.pbtxt").write_text("name: 'other'")
    first = serve(released.folder, models, ServeOptions())
    (first / "1/stale.bin").touch()
    serve(released.folder, models, ServeOptions("openvino-fp32"))
    assert {path.name for path in (first / "1").iterdir()} == {"model.xml", "model.bin"}
    assert {path.name for path in models.iterdir()} == {"other", "classifier"}
    assert {path.name for path in tmp_path.iterdir()} == {"models"}
    with pytest.raises(BadInput, match="was not written by this tool"):
        serve(released.folder, models, ServeOptions(name="other"))
    assert (models / "other/config.pbtxt").read_text() == "name: 'other'"


@pytest.mark.parametrize("more", [(), ("config.pbtxt",)])
def test_no_release_is_replaced_for_holding_the_same_index(
    released: Released, copy: Path, more: tuple[str, ...]
) -> None:
    for name in more:
        (copy / name).touch()
    write_sums(copy)
    with pytest.raises(BadInput, match="was not written by this tool"):
        serve(released.folder, copy.parent, ServeOptions(name=copy.name))
    check_sums(copy)


def test_nothing_is_half_written(released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = serve(released.folder, tmp_path / "models", ServeOptions())
    content = {path: path.read_bytes() for path in before.rglob("*") if path.is_file()}

    def broken(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tool, "client_page", broken)
    with pytest.raises(OSError, match="No space left"):
        serve(released.folder, tmp_path / "models", ServeOptions("openvino-fp32"))
    assert {path: path.read_bytes() for path in before.rglob("*") if path.is_file()} == content
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


@pytest.mark.parametrize("name", ["", "..", "a/b", "Digits", "-x", "a" * 64, "a b", 'x"y', "ä"])
def test_a_name_that_is_no_folder_and_no_address_is_refused(released: Released, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="is no name for a model"):
        serve(released.folder, tmp_path / "models", ServeOptions(name=name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--engine", "openvino-fp16"], "Did you mean 'openvino-fp32'"),
        (["--release", "nowhere"], "nowhere is no release"),
        (["--name", "../x"], "is no name for a model"),
    ],
)
def test_what_cannot_be_served_ends_in_one_sentence_and_exit_2(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    flags: list[str], sentence: str,
) -> None:  # fmt: skip
    out = ["--out", str(tmp_path / "models")]
    monkeypatch.setattr(sys, "argv", ["serve", "--release", str(released.folder), *out, *flags])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith("serve: ") and sentence in message
    assert len(message.splitlines()) == 1 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", ["0", "999999999999", "9" * 5000, "x"])
def test_a_count_that_no_configuration_holds_is_refused_by_its_flag(
    released: Released,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    count: str,
) -> None:
    flags = ["--release", str(released.folder), "--out", str(tmp_path / "models"), "--max-batch", count]
    monkeypatch.setattr(sys, "argv", ["serve", *flags])
    with pytest.raises(SystemExit) as ended:
        tool.main()
    assert ended.value.code == 2 and list(tmp_path.iterdir()) == []
    assert f"--max-batch: '{count}' is no whole number from 1 to 2147483647" in capsys.readouterr().err


def test_a_release_that_was_changed_is_not_served(copy: Path, tmp_path: Path) -> None:
    (copy / "labels.txt").write_text("other\n")
    with pytest.raises(BadInput, match=r"labels\.txt is not the file"):
        serve(copy, tmp_path / "models", ServeOptions())
