"""When latencies are compared, networks run in turns, after a warm-up, with the requested number of threads."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steps.backends.interleaved_timing import WARM_CALLS, eager, exported, take_turns, torch_threads
from steps.errors import BadInput
from tests.models.artifacts import NAMES, SIZE, Own


class Branching(nn.Module):
    """A network whose control flow depends on the values of its input, so that no graph can hold the network."""

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Return logits."""
        return image_NCHW.mean((2, 3)) if float(image_NCHW.sum()) > 0 else image_NCHW.amax((2, 3))


def test_every_round_calls_each_once_after_calls_that_do_not_count() -> None:
    called: list[str] = []
    calls = take_turns({name: partial(called.append, name) for name in "abc"}, rounds=4)
    assert called == ["a"] * WARM_CALLS + ["b"] * WARM_CALLS + ["c"] * WARM_CALLS + list("abc") * 4
    assert {name: len(rows) for name, rows in calls.items()} == {"a": 4, "b": 4, "c": 4}
    assert all(call.wall >= 0 and call.cpu >= 0 for rows in calls.values() for call in rows)


def test_more_work_takes_longer() -> None:
    small, large = torch.rand(8, 8), torch.rand(512, 512)
    calls = take_turns({"small": lambda: small @ small, "large": lambda: large @ large}, rounds=9)
    assert min(call.wall for call in calls["large"]) > min(
        call.wall for call in calls["small"]
    )  # 10^5 times the work


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_the_module_and_its_graph_score_the_same_image_alike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Own(len(NAMES)).eval()
    found = exported(network, "own", len(NAMES), SIZE, 1, tmp_path / "graph")()
    expected = eager(network, SIZE)()
    assert isinstance(expected, Tensor) and isinstance(found, np.ndarray)
    assert torch.allclose(expected, torch.from_numpy(found), atol=1e-5)  # float32, few layers


def test_what_cannot_be_exported_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="branching cannot be exported to ONNX"):
        exported(Branching(), "branching", 3, SIZE, 1, tmp_path / "graph")
