"""A JSON file that cannot be read gives one message, whatever the reason."""

from pathlib import Path

import pytest

from steps.errors import BadInput
from steps.parity.evidence import Unusable, read_report
from steps.reports.evaluate import Latency


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "fuse.json").mkdir()
    with pytest.raises(BadInput, match=r"fuse\.json cannot be read: Is a directory\.$"):
        Latency.read(tmp_path / "fuse.json")
    with pytest.raises(Unusable, match=r"^evidence: .*fuse\.json cannot be read"):
        read_report(tmp_path, "fuse")


def test_a_file_that_nobody_may_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(BadInput, match=r"fuse\.json cannot be read: Permission denied\.$"):
        Latency.read(tmp_path / "fuse.json")
