"""A folder counts as a model of its backend only if the folder has all files that the backend runs."""

from importlib import import_module
from pathlib import Path

import pytest

from steps.backends.runner import open_runner
from steps.engines.contract import WrongFile
from steps.engines.names import BACKENDS
from steps.models.files import WEIGHTS
from tests.backends.tiny import seal


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_table_names_first_what_the_backend_opens(backend: str) -> None:
    opened = getattr(import_module(BACKENDS[backend].module), "MODEL", WEIGHTS)
    assert BACKENDS[backend].files[0] == opened


@pytest.mark.parametrize(
    ("backend", "gone"), [(backend, name) for backend, kind in BACKENDS.items() for name in kind.files]
)
def test_a_file_that_is_gone_with_its_line_in_the_card_is_missed(tmp_path: Path, backend: str, gone: str) -> None:
    for name in BACKENDS[backend].files:
        (tmp_path / name).touch()
    (tmp_path / gone).unlink()
    seal(tmp_path, backend=backend)
    with pytest.raises(WrongFile, match=f"has a card that lists no {gone}, which {backend} runs"):
        open_runner(tmp_path)


def test_an_unknown_backend_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    seal(tmp_path, backend="onnxruntim")
    with pytest.raises(WrongFile, match="Did you mean 'onnxruntime'"):
        open_runner(tmp_path)
