"""evaluate: every form gets the same test images, every score is kept, and nothing is judged."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import steps.images.evaluation_cache
from steps.engines.contract import CannotRunHere
from steps.errors import BadInput, Refused
from steps.files import sha256
from steps.images.manifest import read_manifest
from steps.metrics import scores as kept_scores
from steps.reports.evaluate import FormReport, Latency, Metrics
from tests.backends.tiny import (
    NAMES,
    onnx_model,
    probe_images,
    reference,
    run_step_in,
    swap_channels,
    weights,
    write_exported,
)
from tests.evaluated import IMAGES, SWAPPED, TEST, evaluated, make_root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make_root(tmp_path, monkeypatch)


def test_every_test_image_has_its_scores_in_the_order_of_the_names(root: Path) -> None:
    report, scores = evaluated(root)
    assert scores["id"].to_list() == [f"{number:03}.png" for number in TEST]
    assert scores["label"].to_list() == [number % len(NAMES) for number in TEST]
    files = [root / "files" / name for name in scores["id"]]
    assert scores["checksum"].to_list() == [sha256(file) for file in files]
    assert report.scores_checksum == sha256(root / "evaluate/export.parquet")
    assert scores.schema["scores"] == pl.List(pl.Float32)
    wanted_NK = reference(probe_images(IMAGES)[TEST], weights())
    found_NK = np.array(scores["scores"].to_list())
    np.testing.assert_allclose(found_NK, wanted_NK, rtol=0, atol=1e-5 * np.abs(wanted_NK).max())
    assert report.images == len(TEST)


def test_a_latency_that_cannot_be_written_costs_no_evaluation(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / ".foldline/latency/export.json").mkdir(parents=True)
    assert evaluated(root)[0].top1 is not None
    assert "latency/export.json cannot be written (Is a directory), so" in capsys.readouterr().err


def test_a_form_holds_the_kept_images_against_their_checksum_once_and_uses_none_that_changed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    own = steps.images.evaluation_cache._digest

    def noted(entry: Path) -> str:
        hashed.append(entry)
        return own(entry)

    monkeypatch.setattr(steps.images.evaluation_cache, "_digest", noted)
    _, scores = evaluated(root)
    assert len(hashed) == 1, "when they were written"
    assert evaluated(root)[1].equals(scores) and len(hashed) == 2
    (entry,) = (root / ".foldline/test-images").glob("*.npy")
    content = bytearray(entry.read_bytes())
    content[-1000:] = bytes(1000)  # the end of the last image
    entry.write_bytes(content)
    assert evaluated(root)[1].equals(scores)
    assert len(hashed) == 4, "it was seen to differ, decoded again, and written"


def test_the_figures_are_those_of_the_scores(root: Path) -> None:
    report, scores = evaluated(root)
    labels, found = scores["label"].to_numpy(), np.array(scores["scores"].to_list()).argmax(1)
    recalls = {name: float(np.mean(found[labels == k] == k)) for k, name in enumerate(NAMES)}
    assert report.top1 == pytest.approx(float(np.mean(found == labels)))
    assert report.macro_recall == pytest.approx(float(np.mean(list(recalls.values()))))
    assert report.worst_class is not None
    assert report.worst_recall == recalls[report.worst_class] == min(recalls.values())
    assert report.size_bytes == (root / "model/model.onnx").stat().st_size


def test_with_more_classes_than_are_kept_whole_the_highest_scores_are_kept_and_the_figures_are_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, all_scores = evaluated(root)
    monkeypatch.setattr(kept_scores, "WHOLE", 3)
    monkeypatch.setattr(kept_scores, "HIGHEST", 2)
    report, scores = evaluated(root)
    assert report == whole.model_copy(update={"scores_checksum": report.scores_checksum})
    assert scores.columns == kept_scores.COLUMNS + kept_scores.BEYOND
    best = all_scores["scores"].list.sort(descending=True).list.head(2)
    assert scores["scores"].to_list() == best.to_list()


def test_a_class_whose_score_never_moves_is_noted(root: Path) -> None:
    by = weights()
    by["w3"][2] = 0
    write_exported(root / "model", onnx_model(by))
    report, _ = evaluated(root)
    assert (report.still, report.first_still) == (1, 2)


def test_a_second_form_decodes_no_image_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = evaluated(root)

    def unexpected(*_: object) -> None:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("steps.images.dataset.decode_rgb", unexpected)
    assert evaluated(root, "onnxruntime-fp32")[1].equals(first)


def test_the_metrics_are_the_figures_and_nothing_else(root: Path) -> None:
    report, _ = evaluated(root)
    metrics = Metrics.read(root / "evaluate/export.metrics.json")
    assert metrics.model_dump() == report.model_dump(include=set(Metrics.model_fields))
    assert metrics.top1 is not None


def test_on_the_command_line_a_graph_that_is_not_its_cards_is_exit_3(root: Path) -> None:
    write_exported(root / "model", onnx_model(weights(), SWAPPED), NAMES)
    flags = {"form": "export", "model": "model", "images": "ingest", "split": "split", "out": "data/evaluate"}
    ran = run_step_in(root, "evaluate", flags)
    assert ran.returncode == 3
    assert "names its classes bee, ant" in str(FormReport.read(root / "data/evaluate/export.json").refused)


def test_two_runs_write_the_same_bytes(root: Path) -> None:
    written = []
    for _ in range(2):
        evaluated(root)
        written.append([(root / "evaluate" / name).read_bytes() for name in ("export.json", "export.parquet")])
    assert written[0] == written[1]


def test_the_latency_lies_beside_the_stages_and_in_no_output(root: Path) -> None:
    evaluated(root)
    latency = Latency.read(root / ".foldline/latency/export.json")
    assert (latency.form, latency.threads, set(latency.milliseconds)) == ("export", 1, {1, 32})
    assert "milliseconds" not in (root / "evaluate/export.json").read_text()


def test_the_test_set_is_told_by_its_names_contents_and_labels(root: Path) -> None:
    first = evaluated(root)[0].test_set
    path = root / "split/manifest.parquet"
    manifest = read_manifest(path)
    last = pl.col("name") == f"{TEST[-1]:03}.png"
    manifest.with_columns(label=pl.when(last).then(0).otherwise("label")).write_parquet(path)
    assert evaluated(root)[0].test_set != first


def test_a_model_with_another_class_order_than_the_images_is_refused(root: Path) -> None:
    write_exported(root / "model", onnx_model(weights(), SWAPPED), SWAPPED)
    with pytest.raises(Refused, match="export: class 0 is 'ant' in the images and 'bee' in the model"):
        evaluated(root)


def test_a_model_with_another_number_of_classes_than_the_images_is_refused(root: Path) -> None:
    classes = {"names": dict(enumerate((*NAMES, "eel")))}
    (root / "ingest/classes.json").write_text(json.dumps(classes))
    with pytest.raises(Refused, match="the images have 5 classes and the model 4"):
        evaluated(root)


def test_an_onnx_file_with_another_class_order_than_its_card_is_not_evaluated(root: Path) -> None:
    write_exported(root / "model", onnx_model(weights(), SWAPPED), NAMES)
    with pytest.raises(Refused, match=r"export: .* names its classes bee, ant"):
        evaluated(root)


def test_a_form_that_cannot_run_here_is_deferred_and_has_no_scores(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object) -> None:
        raise CannotRunHere("there is no such GPU")

    monkeypatch.setattr("steps.backends.onnxruntime.open_engine", nowhere)
    report, scores = evaluated(root)
    assert report.deferred == "there is no such GPU"
    assert (report.top1, report.images, report.refused) == (None, 0, None)
    assert report.card is not None
    assert report.size_bytes > 0
    assert scores.is_empty()
    assert scores.schema == {
        "id": pl.String, "label": pl.Int64, "checksum": pl.String, "scores": pl.List(pl.Float32),
    }  # fmt: skip


def test_a_constant_engine_is_evaluated_as_it_is(root: Path) -> None:
    """The gate judges; evaluate only stores the scores that show the fault."""
    by = weights()
    by["w3"][:] = 0
    write_exported(root / "model", onnx_model(by))
    _, scores = evaluated(root)
    assert scores["scores"].n_unique() == 1


def test_channels_swapped_in_preprocessing_show_in_the_scores(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, right = evaluated(root)
    swap_channels(monkeypatch)
    _, swapped = evaluated(root)
    difference_NK = np.array(right["scores"].to_list()) - np.array(swapped["scores"].to_list())
    assert np.abs(difference_NK).max(axis=1).min() > 1e-3


def test_without_test_images_there_is_nothing_to_say(root: Path) -> None:
    path = root / "split/manifest.parquet"
    read_manifest(path, split="train").write_parquet(path)
    with pytest.raises(BadInput, match="no test images"):
        evaluated(root)


def test_the_command_line_writes_one_form_beside_the_others(root: Path) -> None:
    flags = {"model": "model", "images": "ingest", "split": "split", "out": "data/evaluate"}
    for form in ("export", "onnxruntime-fp32"):
        ran = run_step_in(root, "evaluate", {"form": form, **flags})
        assert ran.returncode == 0, ran.stderr
    found = {path.name for path in (root / "data/evaluate").iterdir()}
    kinds = ("json", "metrics.json", "parquet")
    assert found == {f"{form}.{kind}" for form in ("export", "onnxruntime-fp32") for kind in kinds}


def test_on_the_command_line_a_refusal_is_exit_3_and_stands_in_the_forms_own_report(root: Path) -> None:
    write_exported(root / "model", onnx_model(weights(), SWAPPED), SWAPPED)
    flags = {"form": "export", "model": "model", "images": "ingest", "split": "split", "out": "data/evaluate"}
    ran = run_step_in(root, "evaluate", flags)
    assert ran.returncode == 3
    assert "class 0 is 'ant'" in str(FormReport.read(root / "data/evaluate/export.json").refused)
