"""No tool writes into a release: a new file would break the seal."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from steps.reports.release import check_sums

COMMANDS = {
    "serve, beside the model": "serve --release {copy} --out {copy}",
    "serve, instead of the model": "serve --release {copy} --out {copy} --name model",
    "accept, itself": "accept --release {copy} --champion {copy}",
    "accept, below it": "accept --release {copy} --champion {copy}/new/champion",
    "predict": "predict {copy}/no.png --release {copy} --out {copy}/classes.csv",
    "predict, by a link": "predict {copy}/no.png --release {copy} --out {link}/model/classes.csv",
    "bench": "bench --release {copy} --out {copy}",
    "bench, below it": "bench --release {copy} --out {copy}/bench",
    "cost": "cost resnet18 --json {copy}/cost.json",
    "cost, drawn": "cost resnet18 --plot {copy}/cost.svg",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_would_be_written_into_a_release_is_refused(
    copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    link = tmp_path / "link"
    link.symlink_to(copy)
    tool, *words = COMMANDS[command].format(copy=copy, link=link).split()
    monkeypatch.setattr(sys, "argv", [tool, *words])
    with pytest.raises(SystemExit) as ended:
        import_module(f"tools.{tool}").main()
    message = capsys.readouterr().err
    assert (ended.value.code, len(message.splitlines())) == (2, 1)
    assert (
        message.startswith(f"{tool}: --") and f"lies in the release {copy}, whose seal it would break" in message
    )
    check_sums(copy)
