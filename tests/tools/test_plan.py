"""tools.plan: the plan of an expansion is shown before training, and planning changes nothing."""

import sys
from typing import Any

import pytest

from steps.reparam.expand import plan_expansion
from tools import plan as tool
from tools.plan import main


def message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["plan", *words])
    main()
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_each_convolution_has_its_line_with_branches_or_a_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = message(monkeypatch, capsys, "timm:resnet18", "--block", "acb", "--size", "32")
    assert "conv1: full + row + column" in out
    assert "layer2.0.downsample.0: skipped, 'acb' adds no branch to this 1x1 convolution" in out
    assert out.rstrip().endswith("17 of 20 convolutions train as 'acb' blocks")


def test_only_the_wanted_sites_are_planned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = message(monkeypatch, capsys, "repvgg_nano", "--where", "body.stage1.*", "--size", "32")
    assert "body.stem.0.conv: skipped, not in 'body.stage1.*'" in out
    assert "2 of 7 convolutions" in out


def test_the_plan_is_tried_out_in_the_wanted_mode(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modes = []

    def planned(*arguments: Any) -> Any:
        modes.append(arguments[4])
        return plan_expansion(*arguments)

    monkeypatch.setattr(tool, "plan_expansion", planned)
    for words in ((), ("--mode", "online")):
        out, _ = message(monkeypatch, capsys, "cifar_quick", "--block", "acb", "--size", "32", *words)
        assert "convolutions train as 'acb' blocks" in out
    assert modes == ["branch", "online"]


@pytest.mark.parametrize(("size", "sentence"), [("0", "plan: --size 0: images have at least one pixel")])
def test_a_size_that_is_none_is_exit_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], size: str, sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        message(monkeypatch, capsys, "repvgg_nano", "--size", size)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_a_name_that_nobody_knows_is_exit_2_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        message(monkeypatch, capsys, "repvgg_nanno")
    assert ended.value.code == 2
    assert "plan: no architecture 'repvgg_nanno'" in capsys.readouterr().err
