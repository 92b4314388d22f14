"""The output of tools.serve: a page with client code, and a configuration that matches its schema."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from steps.building.engine import Target
from steps.engines.contract import Images
from steps.pages.serving import client_page
from tests.released import BATCH, Released, add_engine
from tests.tools.served import read_config
from tools.serve import ServeOptions, serve
from tools.triton_config import config_text


def told(folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Images]:
    """Run the README's client code up to the request; return the code and its result for the photo."""
    code = [line[4:] for line in (folder / "README.md").read_text().splitlines() if line.startswith("    ")]
    first = next(number for number, line in enumerate(code) if "InferInput" in line)
    lines = "\n".join(line for line in code[:first] if "tritonclient" not in line)
    shutil.copyfile(photo, folder / "photo.jpg")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "predict", raising=False)
    remarks: dict[str, Any] = {}
    exec(lines, remarks)
    images_NHWC_u8: Images = remarks["images_NHWC_u8"]
    return lines, images_NHWC_u8


def test_the_clients_lines_make_what_the_model_was_judged_on(
    released: Released, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = serve(released.folder, tmp_path / "models", ServeOptions())
    _, images_NHWC_u8 = told(folder, released.images[2], monkeypatch)
    assert np.abs(shares_of(folder, images_NHWC_u8) - released.shares_NK["export"][2]).max() <= 1e-3


def test_for_an_engine_that_resizes_the_lines_hand_over_the_image_and_import_nothing_else(
    released: Released, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_engine(copy, Target("onnxruntime", "fp32", BATCH, (), max_side=640), takes="any", max_side=640)
    folder = serve(copy, tmp_path / "models", ServeOptions("added"))
    lines, images_NHWC_u8 = told(folder, released.images[2], monkeypatch)
    assert "preprocess" not in lines and "HOW" not in lines
    assert images_NHWC_u8.shape == (1, 31, 47, 3)
    assert np.abs(shares_of(folder, images_NHWC_u8) - released.shares_NK["export"][2]).max() <= 1e-3


def shares_of(folder: Path, images_NHWC_u8: Images) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Return the probabilities that the served file gives for the first image."""
    session = onnxruntime.InferenceSession(folder / "1/model.onnx", providers=["CPUExecutionProvider"])
    (logits_NK,) = session.run(None, {"images_NHWC_u8": images_NHWC_u8})
    shares_K: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.exp(logits_NK[0]) / np.exp(logits_NK[0]).sum()
    return shares_K


BAD_CONFIGS: dict[str, dict[str, Any]] = {
    "an unknown field": {"nam": "x"},
    "no number": {"max_batch_size": "many"},
    "an unknown type": {"input": [{"data_type": "TYPE_UINT9"}]},
    "a value for a list": {"input": {"name": "x"}},
    "a number beyond 32 bits": {"max_batch_size": 2**31},
}


@pytest.mark.parametrize("kind", BAD_CONFIGS)
def test_the_schema_refuses_what_is_no_configuration(kind: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        config_text(BAD_CONFIGS[kind])


def test_a_configuration_comes_back_as_it_was_written() -> None:
    config = {"name": 'odd "name"\n', "max_batch_size": 8, "instance_group": [{"count": 2, "kind": "KIND_GPU"}]}
    assert read_config(config_text(config)) == config


def test_a_page_tells_what_each_kind_of_engine_takes(released: Released) -> None:
    config = {"input": [{"name": "in"}], "output": [{"name": "out"}], "max_batch_size": 8}
    sized = client_page("x", released.card, config)
    any_size = client_page("x", released.card.model_copy(update={"takes": "any", "max_side": 999}), config)
    assert "N x 16 x 16 x 3" in sized and "short side resized to 20 pixels (bicubic" in sized
    assert "up to 999" in any_size and "16 x 16" not in any_size


def test_a_page_says_what_a_model_in_bfloat16_needs(released: Released) -> None:
    config = {"input": [{"name": "in"}], "output": [{"name": "out"}], "max_batch_size": 0}
    card = released.card.model_copy(update={"backend": "openvino"})
    rounded = client_page("x", card.model_copy(update={"precision": "bf16"}), config)
    assert "judged in bfloat16" in rounded and "avx512_bf16" in rounded
    assert "computes in float32 anywhere" in client_page("x", card, config)
