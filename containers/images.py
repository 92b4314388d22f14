"""Which image a step runs in, and the name under which exactly this checkout's packages were built.

An image is named after what it is built from, so a changed lock file asks for another image instead of running
silently with older packages. `python -m containers.images` prints the tag; with a folder it also lays the build's
context there.
"""

import hashlib
import json
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ("containers/Dockerfile", "containers/install", "containers/uv.txt", "requirements.lock")


@dataclass(frozen=True)
class Images:
    """images.yaml: the image of each step and of each tool that needs one, the extras in each image."""

    steps: dict[str, str]
    tools: dict[str, str]
    images: dict[str, list[str]]


def read_images(root: Path = ROOT) -> Images:
    """Return what containers/images.yaml says."""
    return Images(**yaml.safe_load((root / "containers/images.yaml").read_text()))


def build_context(root: Path = ROOT) -> dict[str, bytes]:
    """Return the files that decide what is in an image: the recipe, the lock, the extras' requirements."""
    files = {name: (root / name).read_bytes() for name in RECIPE}
    return {**files, "pyproject.toml": _requirements(root).encode()}


def image_tag(context: dict[str, bytes]) -> str:
    """Return the tag of images built from this context."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(context.items())}
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:12]


def _requirements(root: Path) -> str:
    """Return pyproject.toml less all that is no image's requirement: a linter's setting changes no image."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = sorted({extra for names in read_images(root).images.values() for extra in names})
    lines = ["[project]", 'name = "foldline"', 'version = "0"']
    lines += [f"dependencies = {json.dumps(project['dependencies'])}", "[project.optional-dependencies]"]
    lines += [f"{extra} = {json.dumps(project['optional-dependencies'][extra])}" for extra in extras]
    return "\n".join([*lines, ""])


def _lay(context: dict[str, bytes], folder: Path) -> None:
    for name, content in context.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "containers/install").chmod(0o755)


if __name__ == "__main__":
    files = build_context()
    for given in sys.argv[1:]:
        _lay(files, Path(given))
    print(image_tag(files))
