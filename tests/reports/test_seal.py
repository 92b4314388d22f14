"""The seal of a release: an unreadable file is named and does not cause a crash."""

from pathlib import Path

import pytest

from steps.errors import BadInput
from steps.reports import release
from steps.reports.release import check_sums, write_sums


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.onnx").write_text("model")
    write_sums(tmp_path)

    def denied(path: Path) -> str:  # raised for every user except root
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(release, "sha256", denied)
    with pytest.raises(BadInput, match=r"/model\.onnx cannot be read: Permission denied\.$"):
        check_sums(tmp_path)
