"""PaddlePaddle's ResNet50_vd loads with each of its namings and formats; a hostile file executes nothing."""

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steps.errors import BadInput, Refused
from steps.models.architectures import create
from steps.weights.loading import load_weights, read_weights, weights_checksum
from steps.weights.paddle import read_pdparams, read_variable
from tests.reparam.networks import randomise
from tests.weights.paddle_files import NAMINGS, as_paddle, variable, write_folder, write_pdparams

CLASSES = 4
PADDLE = os.environ.get("FOLDLINE_PADDLE_PYTHON", sys.executable)  # a Python that has PaddlePaddle


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(3)
    return randomise(create("resnet50d", CLASSES, 64))


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in network.state_dict().items() if not key.endswith("tracked")}


@pytest.mark.parametrize(
    ("form", "naming"), [*(("file", naming) for naming in NAMINGS), ("folder", "static")], ids=str
)
def test_each_naming_fills_the_whole_network_tensor_by_tensor(
    tmp_path: Path, trained: nn.Module, form: str, naming: str
) -> None:
    arrays = as_paddle(state_of(trained), naming)
    if form == "file":
        write_pdparams(tmp_path / "weights.pdparams", arrays)
    else:
        write_folder(tmp_path / "weights.pdparams", arrays)
    network = create("resnet50d", CLASSES, 64)
    coverage = load_weights(network, tmp_path / "weights.pdparams", 1.0)
    assert (coverage.coverage, coverage.used, coverage.unexpected, coverage.head_replaced) == (1, 1, (), False)
    wanted = state_of(trained)
    assert all(torch.equal(value, wanted[key]) for key, value in state_of(network).items())


def test_weights_without_a_last_layer_leave_it_fresh_and_say_so(
    tmp_path: Path, trained: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = as_paddle(state_of(trained), "static")
    write_folder(tmp_path / "vd", {name: value for name, value in arrays.items() if not name.startswith("fc_0")})
    coverage = load_weights(create("resnet50d", 9, 64), tmp_path / "vd", 1.0)
    assert coverage.coverage == 1 and coverage.head_replaced
    assert set(coverage.missing) == {"fc.weight", "fc.bias"}
    assert "the last layer (fc) starts with new weights" in capsys.readouterr().err


def test_what_an_optimizer_leaves_in_the_folder_is_no_weight(tmp_path: Path, trained: nn.Module) -> None:
    write_folder(tmp_path / "vd", as_paddle(state_of(trained), "static"))
    for name in ("fc_0.w_0_velocity_0", "learning_rate_0", "@LR_DECAY_COUNTER@"):
        (tmp_path / "vd" / name).write_bytes(variable(np.ones(3, np.float32)))
    assert load_weights(create("resnet50d", CLASSES, 64), tmp_path / "vd", 1.0).unexpected == ()


def test_a_resnet_with_other_blocks_is_refused(tmp_path: Path) -> None:
    arrays = {f"blocks.0.conv{n}.conv.weight": np.ones((64, 64, 3, 3), np.float32) for n in range(2)}
    write_pdparams(tmp_path / "resnet18_vd.pdparams", arrays)
    with pytest.raises(Refused, match=r"2 unexpected \(blocks\.0\.conv0\.conv\.weight"):
        load_weights(create("resnet18d", CLASSES, 64), tmp_path / "resnet18_vd.pdparams", 0.5)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_other_networks_keep_their_names_but_get_torchs_parts(tmp_path: Path, protocol: int) -> None:
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_pdparams(tmp_path / "w.pdparams", {"norm._mean": kernel[0], "head.weight": kernel}, protocol)
    tensors = read_pdparams(tmp_path / "w.pdparams")
    assert set(tensors) == {"norm.running_mean", "head.weight"}
    assert torch.equal(tensors["head.weight"], torch.from_numpy(kernel.T.copy()))


class Calls:
    """An object that pickles as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "a shell": lambda mark: Calls(os.system, f"touch {mark}"),
    "code": lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"),
    "numpy's own": lambda mark: Calls(np.save, str(mark), 1),
    "among arrays": lambda mark: {"fc.weight": np.ones(2), "x": Calls(os.system, f"touch {mark}")},
    "inside an array": lambda mark: {"x": np.array([Calls(os.system, f"touch {mark}")], dtype=object)},
    "a way to any name": lambda _: Calls(getattr, str, "join"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_a_hostile_pickle_runs_nothing(tmp_path: Path, kind: str, protocol: int) -> None:
    mark, path = tmp_path / "mark", tmp_path / "weights.pdparams"
    path.write_bytes(pickle.dumps(HOSTILE[kind](mark), protocol=protocol))
    with pytest.raises(BadInput, match="no pickle of only arrays"):
        read_weights(path)
    assert not list(tmp_path.glob("mark*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no pickle", "no pickle of only arrays"),
        (b"cnumpy\nndarray\n(S'opened'\nNdb.", "no pickle of only arrays"),  # would change an object outside
        (pickle.dumps([1, 2]), "no dict of whole arrays"),
        (pickle.dumps({}), "has no array"),
        (pickle.dumps({"epoch": 3}), "epoch has no array"),
        (pickle.dumps({"x": np.array([{}], dtype=object)}), "no pickle of only arrays"),
        (
            pickle.dumps({"x": np.ones(4, np.float32)}).replace(b"K\x04\x85", b"K\x05\x85"),
            r"shape \(5,\) in 16 bytes",
        ),
        (pickle.dumps({"x": np.ones(2, np.uint16)}), "an array of the type <u2"),  # bfloat16, as Paddle stores it
        (pickle.dumps({"x": np.ones(2), "UnpackBigParamInfor@@": {}}), "no dict of whole arrays"),
    ],
)
def test_a_file_that_is_no_dict_of_arrays_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "weights.pdparams").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_weights(tmp_path / "weights.pdparams")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_a_variable_is_read_with_its_levels_type_and_shape(tmp_path: Path, dtype: Any) -> None:
    array = np.arange(200 * 3).reshape(200, 3).astype(dtype)  # a side with two bytes in the description
    (tmp_path / "x").write_bytes(variable(array, levels=(b"12345678", b"")))
    read = read_variable(tmp_path / "x")
    assert read.dtype == dtype and np.array_equal(read, array)


WHOLE = variable(np.ones((2, 3), np.float32))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        WHOLE[:11],
        WHOLE[:-1],
        WHOLE + b"\0\0\0\0",
        b"\1" + WHOLE[1:],
        struct.pack("<IQ", 0, 2**60),
        struct.pack("<IQQ", 0, 1, 2**63),
        WHOLE[:16] + struct.pack("<i", -5) + WHOLE[20:],
        WHOLE.replace(b"\x08\x05", b"\x08\x16"),
        WHOLE.replace(b"\x10\x02", b"\x10\xff"),
    ],
)
def test_a_damaged_variable_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(BadInput, match=r"damaged is no variable of a Paddle program"):
        read_weights(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="one file per variable"):
        read_weights(tmp_path)


def test_a_folders_checksum_knows_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    first = weights_checksum(tmp_path)
    (tmp_path / "a").write_bytes(b"2")
    second = weights_checksum(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, weights_checksum(tmp_path)}) == 3


@pytest.fixture(scope="module")
def written_by_paddle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder into which PaddlePaddle itself wrote weights, images and logits."""
    environment = {**os.environ, "PYTHONPATH": "", "GLOG_minloglevel": "3"}
    if subprocess.run([PADDLE, "-c", "import paddle"], env=environment, capture_output=True).returncode:
        pytest.skip("PaddlePaddle is not installed; FOLDLINE_PADDLE_PYTHON may name a Python that has it")
    folder = tmp_path_factory.mktemp("paddle")
    script = Path(__file__).with_name("paddle_writes.py")
    subprocess.run([PADDLE, str(script), str(folder)], env=environment, capture_output=True, check=True)
    return folder


@pytest.mark.parametrize(
    ("file", "naming"), [("1.8.pdparams", "1.8"), ("2.0.pdparams", "2.0"), ("static", "static")]
)
def test_paddlepaddles_own_network_gives_the_same_logits(written_by_paddle: Path, file: str, naming: str) -> None:
    images = torch.from_numpy(np.load(written_by_paddle / "images.npy"))
    network = create("resnet50d", 7, images.shape[-1]).eval()
    load_weights(network, written_by_paddle / file, 1.0)
    expected = torch.from_numpy(np.load(written_by_paddle / f"{naming}.npy"))
    with torch.no_grad():
        error = (network(images) - expected).abs().max() / expected.abs().max()
    assert error < 1e-5  # float32 convolutions of two libraries, 50 layers deep: measured 1.3e-6
