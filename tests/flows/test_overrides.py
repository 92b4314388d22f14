"""The values of a single run go into params.yaml as a user would write them there, or the run is refused."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.overrides import overridden, set_params
from steps.errors import BadInput
from steps.params import load_params
from steps.params.fuse import FuseParams
from tests.reference_params import REFERENCE, reference_params


@pytest.fixture
def params(tmp_path: Path) -> Path:
    return Path(shutil.copy(REFERENCE, tmp_path))


def changed_lines(params: Path) -> dict[str, str]:
    """Return each line that differs from the reference, with the old line; the number of lines must stay."""
    before, after = (path.read_text().splitlines() for path in (REFERENCE, params))
    return {new: old for old, new in zip(before, after, strict=True) if old != new}


@pytest.mark.parametrize(
    ("overrides", "key", "line"),
    [
        ({"train": {"epochs": 3}}, "train.epochs", "  epochs: 3"),
        (
            {"train": {"weights": "data/weights/w.safetensors"}},
            "train.weights",
            "  weights: data/weights/w.safetensors",
        ),
        (
            {"train": {"schedule": {"warmup_epochs": 2}}},
            "train.schedule.warmup_epochs",
            "  schedule: {name: cosine, warmup_epochs: 2}",
        ),
        ({"gate": {"required": ["export"]}}, "gate.required", "  required: [export]"),
        ({"seed": 7}, "seed", "seed: 7"),
    ],
)
def test_only_the_line_of_the_value_changes(params: Path, overrides: dict[str, Any], key: str, line: str) -> None:
    assert list(set_params(params, overrides)) == [key]
    assert list(changed_lines(params)) == [line]


def test_a_list_keeps_its_line_and_its_comment(params: Path) -> None:
    overrides = {"engines": ["onnxruntime-fp32", "openvino-int8"]}
    assert list(set_params(params, overrides)) == ["engines"]
    (line,) = changed_lines(params)
    assert line.startswith("engines: [onnxruntime-fp32, openvino-int8] ")
    assert line.endswith("# <backend>-<precision>")


def test_null_is_written_as_the_word(params: Path) -> None:
    set_params(params, {"train": {"weights": "data/weights/w.safetensors"}})
    assert list(set_params(params, {"train": {"weights": None}})) == ["train.weights"]
    assert changed_lines(params) == {}


def test_a_key_that_had_its_default_is_added_to_its_section(params: Path) -> None:
    assert set_params(params, {"train": {"best_by": "top1"}}) == {"train.best_by": 'its default -> "top1"'}
    before = reference_params()
    before["train"]["best_by"] = "top1"
    assert yaml.safe_load(params.read_text()) == before


def test_a_small_number_is_read_again_as_a_number(params: Path) -> None:
    set_params(params, {"fuse": {"max_error_fp32": 1e-7}})
    section = load_params(params).section("fuse")
    assert isinstance(section, FuseParams) and section.max_error_fp32 == 1e-7


@pytest.mark.parametrize(
    "overrides", [{}, {"seed": 0}, {"train": {}}, {"train": {"augment": {"shift": {"pixels": 2}}}}]
)
def test_a_value_that_stands_there_already_leaves_the_file_alone(params: Path, overrides: dict[str, Any]) -> None:
    before = params.stat()
    assert set_params(params, overrides) == {}
    after = params.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"seed": 1, "train": {"epoch": 3}}, "train.epoch: unknown key. Did you mean 'epochs'?"),
        ({"seed": 1, "trian": {"epochs": 3}}, "trian: unknown key. Did you mean 'train'?"),
        ({"seed": 1, "train": {"epochs": -3}}, "train.epochs: "),
        ({"seed": 1, "train": 3}, "train: "),
        ({"seed": {"of": "train"}}, "seed: "),
        ({"seed": 1, "engines": ["onnxruntime-fp33"]}, "engines: "),
    ],
)
def test_nothing_is_written_when_anything_is_wrong(params: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=r"params\.yaml with the run's overrides has \d fault") as fault:
        set_params(params, overrides)
    assert message in str(fault.value)
    assert changed_lines(params) == {}


def test_a_fault_that_stood_there_before_is_found_without_overrides_too(params: Path) -> None:
    params.write_text(params.read_text().replace("seed: 0", "seed: -1"))
    with pytest.raises(BadInput, match="seed: "):
        set_params(params, {})


def test_old_values_are_told_beside_the_new_ones(params: Path) -> None:
    overrides = {"train": {"lr": 0.05, "weights": "data/weights/w.safetensors"}, "gate": {"required": ["export"]}}
    assert set_params(params, overrides) == {
        "train.lr": "0.1 -> 0.05",
        "train.weights": 'null -> "data/weights/w.safetensors"',
        "gate.required": '["fuse", "export", "onnxruntime-fp32"] -> ["export"]',
    }


def test_params_are_as_they_were_when_what_follows_from_them_is_wrong(params: Path) -> None:
    before = params.read_bytes()
    with pytest.raises(BadInput, match="no such stage"), overridden(params, {"seed": 7}):
        _find_a_fault(params, before)
    assert params.read_bytes() == before
    with overridden(params, {"seed": 7}) as changes:
        assert changes == {"seed": "0 -> 7"}
    assert list(changed_lines(params)) == ["seed: 7"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {lr: 0.1", "is no YAML: line 1"),
        ("train:\n  lr: 0.1\n  lr: 0.2\n", "line 3: the key 'lr'"),
        ("", "fault"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_sentence(params: Path, text: str, message: str) -> None:
    params.write_text(text)
    with pytest.raises(BadInput, match=message):
        set_params(params, {"train": {"lr": 0.07}})
    assert params.read_text() == text


def _find_a_fault(params: Path, before: bytes) -> None:
    assert params.read_bytes() != before
    raise BadInput("no such stage")
