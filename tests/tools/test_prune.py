"""tools.prune: a removed engine's leftovers are deleted; faulty params stop the tool before DVC reads them."""

from pathlib import Path

import pytest

from tools import prune


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("engines: [", "prune: params.yaml is no YAML: line 1: "),
        ("seed: 0\nseed: 1\n", "the key 'seed' is there already"),
    ],
)
def test_params_with_a_fault_are_one_sentence_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prune"])
    (tmp_path / "params.yaml").write_text(text)
    assert prune.main() == 2
    assert message in capsys.readouterr().err
