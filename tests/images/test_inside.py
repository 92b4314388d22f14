"""A data set's inside is its folder and DVC's cache of this project; tested with a real DVC."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from steps.images.dataset import PLACE, image_root, read_bytes
from steps.images.inside import dvc_caches, real_path_inside
from steps.images.manifest import read_manifest
from steps.ingest import ingest
from steps.params.ingest import IngestParams
from steps.reports.classes import Classes
from steps.reports.ingest import IngestReport
from tests.clone import draw_images, dvc, environment, fresh_clone, set_params


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project whose folder is the working directory; data/raw/a is a link to the file elsewhere/a."""
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / "data/raw").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a").touch()
    (project / "data/raw/a").symlink_to(tmp_path / "elsewhere/a")
    monkeypatch.chdir(project)
    return project


def is_inside(path: str) -> bool:
    return real_path_inside(Path("data/raw"), Path("data/raw") / path) is not None


@pytest.mark.parametrize("name", ["config", "config.local"])
@pytest.mark.parametrize("written", ["../../elsewhere", '"../../elsewhere"', "{}", "../../elsewhere  # shared"])
def test_a_link_into_the_configured_cache_is_inside(project: Path, name: str, written: str) -> None:
    cache = project.parent / "elsewhere"
    lines = ("[core]", "    analytics = false", "['remote \"x\"']", "    url = a%20b", "[cache]")
    (project / ".dvc" / name).write_text("\n".join([*lines, f"    dir = {written.format(cache)}"]))
    assert dvc_caches(project) == [cache]
    assert real_path_inside(Path("data/raw"), Path("data/raw/a")) == cache / "a"


def test_a_link_into_the_default_cache_is_inside_even_if_the_cache_is_a_link(project: Path) -> None:
    (project / ".dvc/cache").symlink_to(project.parent / "elsewhere")
    assert is_inside("a")


@pytest.mark.parametrize(
    "config", ["", "[cache]\n    type = symlink\n", "no config", "[cache]\n  dir = ../other\n"]
)
def test_a_link_to_another_place_stays_outside(project: Path, config: str) -> None:
    (project / ".dvc/config").write_text(config)
    assert not is_inside("a")


def test_the_cache_of_another_project_stays_outside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".dvc/config").write_text("[cache]\n    dir = ../../elsewhere\n")
    monkeypatch.chdir(project.parent)
    assert real_path_inside(project / "data/raw", project / "data/raw/a") is None


def test_a_path_that_is_written_outside_stays_outside_although_it_leads_into_the_cache(project: Path) -> None:
    (project / ".dvc/config").write_text("[cache]\n    dir = ../../elsewhere\n")
    assert is_inside("a")
    assert not is_inside("../../../elsewhere/a")
    assert not is_inside(os.fspath(project.parent / "elsewhere/a"))


def test_a_loop_of_links_is_no_crash(project: Path) -> None:
    (project / "data/raw/b").symlink_to("b")
    assert is_inside("b")  # opening the file fails, and names the loop


def run_dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], env=environment(), check=True, capture_output=True)


@pytest.mark.parametrize("where", ["inside the project", "elsewhere"])
def test_images_lists_and_names_that_dvc_keeps_as_links_are_ingested_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    raw = tmp_path / "project/data/raw"
    draw_images(raw, 2)
    monkeypatch.chdir(tmp_path / "project")
    names = sorted(path.relative_to(raw).as_posix() for path in raw.rglob("*.jpg"))
    ids = {name: number for number, name in enumerate(sorted({name.partition("/")[0] for name in names}))}
    (raw / "train_list.txt").write_text("".join(f"{name} {ids[name.partition('/')[0]]}\n" for name in names))
    (raw / "names.txt").write_text("".join(f"{number} {name}\n" for name, number in ids.items()))
    run_dvc("init", "--no-scm", "-q")
    run_dvc("config", "cache.type", "symlink")
    if where == "elsewhere":
        run_dvc("cache", "dir", "--local", "../shared cache")
    run_dvc("add", "-q", "data/raw")
    assert all((raw / name).is_symlink() for name in (*names, "train_list.txt", "names.txt"))

    out = Path("data/ingest")
    out.mkdir()
    ingest(IngestParams(source="data/raw", layout="list", label_names="names.txt"), out)
    assert IngestReport.read(out / "report.json").faults == {}
    assert Classes.read(out / "classes.json").names == {number: name for name, number in ids.items()}
    rows = pl.read_parquet(out / "manifest.parquet").select(PLACE).rows()
    contents = [read_bytes(image_root(out), row) for row in rows]
    assert contents == [(raw / name).read_bytes() for name in names]


@pytest.mark.slow
def test_a_line_whose_files_are_links_trains_and_is_released(tmp_path: Path) -> None:
    folder = fresh_clone(tmp_path / "line")
    draw_images(folder / "data/raw", 20)
    set_params(
        folder,
        ingest={"source": "data/raw"},
        train={"epochs": 8, "batch_size": 8, "lr": 0.05, "preprocess": {"side": 16}},
        gate={"max_top1_drop": 0.5, "max_recall_drop": 1.0},
    )
    for arguments in (("config", "cache.type", "symlink"), ("add", "data/raw"), ("repro",)):
        ran = dvc(folder, *arguments)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    manifest = folder / "data/ingest/manifest.parquet"
    assert manifest.is_symlink() and all(path.is_symlink() for path in (folder / "data/raw").rglob("*.jpg"))
    assert read_manifest(folder / "data/split/manifest.parquet", split="train").height > 0
    assert (folder / "data/train/report.json").is_symlink() and (folder / "data/release/release.json").exists()
