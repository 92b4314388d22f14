"""Steps on a small disk: train streams images that do not fit, and an error says that the disk is full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from steps.params.train import TrainParams
from tests.backends.tiny import onnx_model, weights, write_exported, write_images
from tests.full_disk import fill, small_disk
from tests.reference_params import reference_params
from tests.training.trainings import PARAMS, ROOT, changed, make_workspace

pytestmark = pytest.mark.slow
BUILD = """
import sys
from pathlib import Path
from steps.build import build
from tests.backends.tiny import ANY_CLASS
try:
    build(ANY_CLASS, 0, "aotinductor-fp32", Path("model"), Path("ingest"), Path("split"), Path("disk"))
except OSError as fault:
    print(fault.strerror)
"""


def run_train(workspace: Path, params: TrainParams) -> tuple[int, list[str]]:
    """Return the exit code of the step and the lines that the step printed."""
    content = {**reference_params(), "train": params.model_dump(mode="json")}
    (workspace / "params.yaml").write_text(yaml.safe_dump(content))
    flags = ("--images", "ingest", "--split", "split", "--out", "data/train")
    ran = subprocess.run(
        [sys.executable, "-m", "steps.train", *flags],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stderr.splitlines()


def test_train_streams_images_that_do_not_fit_into_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path, monkeypatch)
    with small_disk(workspace / ".foldline/cache"):
        code, lines = run_train(workspace, changed(preprocess={"side": 192}, epochs=1))
    assert code == 0, lines
    (line,) = [line for line in lines if "free there" in line]
    assert line.endswith("the images are not cached, and each epoch decodes them again")
    assert (workspace / "data/train/report.json").is_file()


@pytest.mark.parametrize("full", [".foldline", "data"])
def test_train_on_a_full_disk_is_one_sentence_and_exit_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    workspace = make_workspace(tmp_path, monkeypatch)
    with small_disk(workspace / full) as disk:
        fill(disk, but=8192)
        code, lines = run_train(workspace, PARAMS)
        assert code == 3, lines
        assert lines[-1].startswith("train: ") and f"{full}/" in lines[-1] and "free there" in lines[-1]
        assert not any("Traceback" in line for line in lines)
        assert not (workspace / "data/train").exists() and not (workspace / "data/.train.tmp").exists()


def test_torch_does_not_abort_the_build_of_an_engine_that_does_not_fit(tmp_path: Path) -> None:
    write_exported(tmp_path / "model", onnx_model(weights()))
    write_images(tmp_path)
    with small_disk(tmp_path / "disk") as disk:
        fill(disk, but=8192)
        ran = subprocess.run(
            [sys.executable, "-c", BUILD],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (ran.returncode, ran.stdout) == (0, "No space left on device\n"), ran.stderr
