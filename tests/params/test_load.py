"""params.yaml is accepted as a whole, or refused with every fault, its key and the right value."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import load_yaml

from steps.errors import BadInput
from steps.params import Params, load_params
from steps.params.learning import BalancedParams, CrossEntropyParams, FlipParams, FocalParams
from steps.params.train import TrainParams
from steps.params.validate import ValidateParams
from tests.reference_params import REFERENCE, reference_params


def write(folder: Path, changes: dict[str, Any]) -> Path:
    """Write the reference params with these values, given by dotted key."""
    content = reference_params()
    for key, value in changes.items():
        *parents, name = key.split(".")
        inner = content
        for parent in parents:
            inner = inner[parent]
        inner[name] = value
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_section_goes_by_the_name_of_its_step() -> None:
    params = load_params(REFERENCE)
    assert isinstance(params.section("validate"), ValidateParams)
    assert isinstance(params.section("train"), TrainParams)


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.lr": "1e-4"})  # YAML 1.1 requires a decimal point
    train = load_params(path).section("train")
    assert isinstance(train, TrainParams) and train.lr == 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sead": 1}, "sead: unknown key. Did you mean 'seed'?"),
        ({"validate.max_unreadible": 1}, "validate.max_unreadible: unknown key. Did you mean 'max_unreadable'?"),
        ({"train.augment.flop": 1}, "train.augment.flop: unknown key. Did you mean 'flip'?"),
        ({"train.augment.flip": 2}, "train.augment.flip.probability: should be less than or equal to 1, not 2"),
        (
            {"train.loss": {"name": "focl"}},
            "train.loss.name: 'focl' is none of cross_entropy, focal. Did you mean",
        ),
        ({"train.loss": {"name": "focal", "gama": 1}}, "train.loss.gama: unknown key. Did you mean 'gamma'?"),
        (
            {"train.sampler.power": 0.5},
            "train.sampler.power: unknown key. It is a key of balanced, and name is shuffle.",
        ),
        ({"train.loss": 3}, "train.loss: should be a section, with keys of its own, not 3"),
        ({"train.momentum": 0.8}, "train.momentum: unknown key. It is train.optimizer.momentum now."),
        ({"class_num": 1}, "class_num: should be a whole number from 2, or auto, not 1"),
        ({"engines": []}, "engines: "),
        ({"engines": ["onnxruntime-fp32"] * 2}, "engines: an engine is listed twice"),
        ({"engines": ["onnxruntime-fp32", "a;b"]}, "engines: "),
        (
            {"gate.required": ["export", "openvino-fp33"]},
            "gate.required: no form is called 'openvino-fp33'. Did you mean",
        ),
        ({"build.batch.opt": 100}, "build.batch: min (1) <= opt (100) <= max (64) must hold"),
        ({"train": None}, "train: should be a section, with keys of its own, not null"),
        (
            {"ingest.lists": {"valid": "v.txt"}},
            "ingest.lists.valid: should be 'all', 'train', 'val' or 'test', not",
        ),
        ({"ingest.lists": {"val": 3}}, "ingest.lists.val: should be text, not 3"),
        (
            {"ingest.columns": {"path": True}},
            "ingest.columns.path: should be a column's name, or its number from 0",
        ),
        (
            {"train.preprocess.mean": [0.5, 2, 0.5]},
            "train.preprocess.mean.1: should be less than or equal to 1, not 2",
        ),
        ({"split.val": 0.5, "split.test": 0.5}, "split.test: val (0.5) and test (0.5) leave nothing to train on"),
    ],
)
def test_a_fault_is_named_with_its_key(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as fault:
        load_params(write(tmp_path, changes))
    assert f"\n  {message}" in str(fault.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 2**70}, "seed: should be less than 9223372036854775808, not"),
        ({"seed": True}, "seed: should be a whole number, not true"),
        ({"train.epochs": "3"}, 'train.epochs: should be a whole number, not "3"'),
        ({"train.lr": True}, "train.lr: should be a number, not true"),
        ({"train.lr": math.inf}, "train.lr: should be a finite number"),
        ({"train.lr": math.nan}, "train.lr: should be "),
        ({"train.schedule.warmup_epochs": math.inf}, "train.schedule.warmup_epochs: should be a finite number"),
        ({"train.schedule.warmup_epochs": 17}, "train.schedule.warmup_epochs: should be at most epochs (16)"),
        ({"fuse.max_error_fp32": math.inf}, "fuse.max_error_fp32: should be a finite number"),
        ({"fuse.branches": "keep", "train.expand.block": "none"}, "fuse.branches: keep has no branches to keep"),
        ({"fuse.branches": "keep", "train.expand.mode": "online"}, "fuse.branches: keep has no branches to keep"),
        ({"fuse.branches": "keep", "train.qat": {"epochs": 1}}, "fuse.branches: keep has no branches to keep"),
        ({"train.preprocess.resize": 16}, "train.preprocess.resize: should be at least side (32)"),
    ],
)
def test_a_value_that_cannot_work_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=r"has 1 fault\(s\)") as fault:
        load_params(write(tmp_path, changes))
    assert f"\n  {message}" in str(fault.value)


def test_a_name_or_a_number_alone_stands_for_its_section(tmp_path: Path) -> None:
    path = write(tmp_path, {"train.sampler": "balanced", "train.loss": "focal", "train.augment.flip": 0.5})
    train = load_params(path).section("train")
    assert isinstance(train, TrainParams)
    assert train.sampler == BalancedParams() and train.loss == FocalParams()
    assert train.augment.flip == FlipParams(probability=0.5)


def test_keys_without_a_name_are_those_of_the_usual_variant(tmp_path: Path) -> None:
    train = load_params(write(tmp_path, {"train.loss": {"label_smoothing": 0.3}})).section("train")
    assert isinstance(train, TrainParams) and train.loss == CrossEntropyParams(label_smoothing=0.3)


def test_values_at_the_bounds_are_let_in(tmp_path: Path) -> None:
    changes = {"seed": 2**63 - 1, "train.lr": 1, "train.schedule.warmup_epochs": 16, "train.preprocess.resize": 32}
    load_params(write(tmp_path, changes))
    load_params(
        write(tmp_path, {"train.epochs": 0, "train.weights": "data/weights/w.safetensors", "train.expand": {}})
    )


@pytest.mark.parametrize("value", ["0.5", "5.0e-1", "5e-1", "+5e-1"])
def test_a_number_may_be_written_in_each_way_that_yaml_has(tmp_path: Path, value: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((REFERENCE).read_text().replace("lr: 0.1\n", f"lr: {value}\n"))
    train = load_params(path).section("train")
    assert isinstance(train, TrainParams) and train.lr == 0.5


def test_faults_between_keys_are_told_with_the_others(tmp_path: Path) -> None:
    changes = {"seed": -1, "split.test": 0.9, "split.max_leaked": -1, "gate.required": ["export", "openvino-int8"]}
    with pytest.raises(BadInput, match=r"has 4 fault\(s\)") as fault:
        load_params(write(tmp_path, changes))
    assert all(f"\n  {key}: " in str(fault.value) for key in changes)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    changes = {"seed": -1, "split.val": 2, "train.lr": "fast", "gate.min_agrement": 1}
    with pytest.raises(BadInput, match=r"params\.yaml has 4 fault\(s\)") as fault:
        load_params(write(tmp_path, changes))
    assert all(f"\n  {key}: " in str(fault.value) for key in changes)


def test_a_section_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    content = reference_params()
    del content["export"]
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(BadInput, match="export: Field required"):
        load_params(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [0", "is no YAML"),
        ("seed: \x00", "is no YAML"),
        ("seed: 0\nclass_num: [", r"is no YAML: line 2: "),
        ("seed: 0\nseed: 1", r"is no YAML: line 2: the key 'seed' is there already, in line 1; remove one"),
        ("train:\n  lr: 0.1\n  lr: 0.2", r"is no YAML: line 3: the key 'lr' is there already, in line 2"),
        ("train: &all\n  lr: *all", r"is no YAML: line 2: the alias 'all' is inside the value of its anchor"),
        ("? 2026-01-01\n: 0", r"params\.yaml: 2026-01-01: 2026-01-01 is a date in YAML; put the text"),
        ("train: {arch: 2026-01-01}", r"params\.yaml: train\.arch: 2026-01-01 is a date in YAML; put the text"),
        ("", "has 1 fault"),
        ("- seed", "has 1 fault"),
    ],
)
def test_a_file_that_holds_no_params_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(BadInput, match=message):
        load_params(path)


def test_a_file_that_is_not_utf8_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(b"seed: \xff\xfe")
    with pytest.raises(BadInput, match="is no YAML"):
        load_params(path)


@pytest.mark.parametrize(("text", "seed"), [("010", 10), ("0o10", 8), ("1_000", 1000), ("0x1F", 31)])
def test_a_seed_is_the_number_that_dvc_reads(tmp_path: Path, text: str, seed: int) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"^seed: .*$", f"seed: {text}", REFERENCE.read_text(), flags=re.M))
    assert load_params(path).seed == load_yaml(str(path))["seed"] == seed


@pytest.mark.parametrize("text", ["1:30", "yes", "2026-01-01"])
def test_a_word_that_yaml_1_1_reads_as_a_number_is_not_a_seed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"^seed: .*$", f"seed: {text}", REFERENCE.read_text(), flags=re.M))
    with pytest.raises(BadInput, match="seed: "):
        load_params(path)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"params\.yaml is not there; run from the project's folder"):
        load_params(tmp_path / "params.yaml")


def test_params_cannot_be_changed_after_they_were_checked() -> None:
    params: Params = load_params(REFERENCE)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 1  # type: ignore[misc]
