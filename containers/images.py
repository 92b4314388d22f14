"""The image of each step, and the tag of the images with exactly this checkout's packages.

The tag is a hash of the build's context, so a changed lock file needs a new image and never runs with older
packages. `python -m containers.images` prints the tag; with a folder as argument it also writes the build's
context to that folder.
"""

import hashlib
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from steps.yaml_text import read_yaml

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ("containers/Dockerfile", "containers/install", "containers/uv.txt", "requirements.lock")


@dataclass(frozen=True)
class Images:
    """images.yaml: the image of each step, the image of each tool that needs one, and the extras of each image."""

    steps: dict[str, str]
    tools: dict[str, str]
    images: dict[str, list[str]]


def read_images(root: Path = ROOT) -> Images:
    """Return the content of containers/images.yaml."""
    return Images(**read_yaml(root / "containers/images.yaml"))


def build_context(root: Path = ROOT) -> dict[str, bytes]:
    """Return the files that decide the content of an image: the recipe, the lock file, the requirements."""
    files = {name: (root / name).read_bytes() for name in RECIPE}
    return {**files, "pyproject.toml": _requirements(root).encode()}


def image_tag(context: dict[str, bytes]) -> str:
    """Return the tag of the images that are built from this context."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(context.items())}
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:12]


def _requirements(root: Path) -> str:
    """Return the requirements of pyproject.toml alone: other settings, such as a linter's, change no image."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = sorted({extra for names in read_images(root).images.values() for extra in names})
    lines = ["[project]", 'name = "foldline"', 'version = "0"']
    lines += [f"dependencies = {json.dumps(project['dependencies'])}", "[project.optional-dependencies]"]
    lines += [f"{extra} = {json.dumps(project['optional-dependencies'][extra])}" for extra in extras]
    return "\n".join([*lines, ""])


def _write_context(context: dict[str, bytes], folder: Path) -> None:
    for name, content in context.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "containers/install").chmod(0o755)


if __name__ == "__main__":
    files = build_context()
    for argument in sys.argv[1:]:
        _write_context(files, Path(argument))
    print(image_tag(files))
