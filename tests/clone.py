"""A fresh clone of the project with a user's own images, ready for dvc."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageDraw

from tests.reference_params import REFERENCE

ROOT = Path(__file__).parent.parent
COLOURS = {"blue": (40, 60, 220), "green": (40, 200, 60), "red": (220, 50, 40)}


def fresh_clone(folder: Path) -> Path:
    """Copy all files that git tracks or would add, with the tests' params, without the outputs of any run."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shutil.copy(REFERENCE, folder / "params.yaml")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def draw_images(folder: Path, per_class: int) -> None:
    """Draw discs, in one colour per class, at random places and sizes, on grey noise."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            image = Image.fromarray(random.integers(90, 150, (40, 48, 3), dtype=np.uint8))
            x, y, radius = (int(value) for value in random.integers((14, 12, 6), (34, 28, 12)))
            ImageDraw.Draw(image).ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
            image.save(folder / name / f"{number:03}.jpg", quality=92)


def set_params(folder: Path, **sections: dict[str, Any]) -> None:
    """Overwrite these values in the clone's params.yaml."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for name, values in sections.items():
        params[name] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def environment() -> dict[str, str]:
    """Return the environment of a user in a clone, with one thread: tiny images only make more threads wait."""
    return {**os.environ, "FOLDLINE_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}


def dvc(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
