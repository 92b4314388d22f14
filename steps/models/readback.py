"""Check that a model artifact is the network in memory: a fresh process must get the same scores from it.

A state dict holds parameters and persistent buffers. A mask that is drawn again, a buffer with persistent=False, a
permutation in a Python list or an annealed Python number is lost when the network is saved: the artifact then
computes another function, and every later form agrees with the artifact.
Letters: N images, K classes.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from steps.errors import BadInput
from steps.files import end_with_parent
from steps.images.dataset import Images
from steps.images.workers import spawned
from steps.models.files import load_classifier
from steps.models.normalised import Normalised

Logits = npt.NDArray[np.float32]
Score = Callable[[Images], Logits]
MAX_ERROR = 1e-3  # of the largest logit; a GPU and a CPU differ by less
MAX_OTHER_CLASSES = 1e-3  # of the images: ties that rounding decides


@contextmanager
def fresh_process(artifact: Path) -> Iterator[Score]:
    """Give a function that scores images_NHWC_u8 by the artifact, as a new Python process reads it."""
    with spawned(1, end_with_parent) as pool:
        pool.submit(_load, artifact, torch.get_num_threads()).result()
        yield lambda images_NHWC_u8: pool.submit(_score, images_NHWC_u8).result()


_loaded: list[Normalised] = []  # of the fresh process


def _load(artifact: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    _loaded.append(load_classifier(artifact)[0])


@torch.inference_mode()
def _score(images_NHWC_u8: Images) -> Logits:
    logits_NK: Logits = _loaded[0](torch.from_numpy(images_NHWC_u8)).numpy()
    return logits_NK


def lost_state(artifact: Path, network: Normalised, batches: Iterable[Images]) -> str | None:
    """Return a sentence that tells how the artifact differs from the network in memory on these images, or None.

    The network must be in eval mode.
    """
    error, other, images, largest = 0.0, 0, 0, 0.0
    device = network.offset_C11.device
    try:
        with fresh_process(artifact) as score:
            for images_NHWC_u8 in batches:
                with torch.inference_mode():
                    wanted_NK = network(torch.from_numpy(images_NHWC_u8).to(device)).cpu().numpy()
                found_NK = score(images_NHWC_u8)
                error = max(error, float(np.abs(found_NK - wanted_NK).max(initial=0.0)))
                largest = max(largest, float(np.abs(wanted_NK).max(initial=0.0)))
                other += int((found_NK.argmax(1) != wanted_NK.argmax(1)).sum())
                images += len(images_NHWC_u8)
    except BadInput as fault:
        return f"the model that was written cannot be read again: {fault}"
    if error <= MAX_ERROR * largest and other <= max(1, MAX_OTHER_CLASSES * images):
        return None
    return (
        f"the model that was written is not the network in memory: read again in a fresh process, the model puts "
        f"{other} of {images} images into another class, and its logits differ by up to {error:.3g} where the "
        f"largest is {largest:.3g}. {_cause(network)}"
    )


def _cause(network: nn.Module) -> str:
    """Return what the network probably keeps outside its state dict."""
    buffers = [
        f"{name}.{buffer}".lstrip(".")
        for name, module in network.named_modules()
        if not isinstance(module, Normalised)
        for buffer in module._non_persistent_buffers_set
    ]
    if buffers:
        return (
            f"The state dict lacks buffers with persistent=False ({', '.join(buffers[:3])}); make them persistent."
        )
    return (
        "The network keeps a state that its state dict lacks, such as a number, a list or a random draw of its "
        "constructor; register that state as a buffer."
    )
