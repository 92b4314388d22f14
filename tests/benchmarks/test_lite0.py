"""A small sample of the benchmark of a published network: the whole line runs on a few crops."""

from pathlib import Path

import pytest
import torch

from benchmarks import lite0
from steps.reparam.expand import plan_expansion


@pytest.mark.slow
def test_every_form_of_lite0_with_its_own_weights_says_the_same_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite0, "CROPS", 2)
    crops_NHWC_u8 = lite0._crops()
    forms = lite0._make_forms(tmp_path, "acb", crops_NHWC_u8)
    assert set(forms) == {"train", "fuse", "export", *lite0.ENGINES}
    figures = lite0._compare(forms, "acb", crops_NHWC_u8, labelled=False)
    assert len(figures) == len(forms) and all(figure.holds for figure in figures)
    class_N = lite0._classes("train", forms["train"], crops_NHWC_u8)
    assert len(set(class_N.tolist())) > 1, "a network that says one class of all agrees with anything"


def test_all_of_its_convolutions_that_a_block_is_for_are_expanded() -> None:
    network = lite0.efficientnet_lite0(10).eval()
    plan = plan_expansion(network, "acb", example_NCHW=torch.zeros(1, 3, 224, 224))
    assert {site.skipped for site in plan.sites} == {None, "'acb' adds no branch to this 1x1 convolution"}
