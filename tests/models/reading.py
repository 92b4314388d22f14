"""Read an artifact back without a new process, for tests that are not about reading back."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from steps.images.dataset import Images
from steps.models.files import load_classifier
from steps.models.readback import Logits, Score


@contextmanager
def in_this_process(artifact: Path) -> Iterator[Score]:
    classifier, _ = load_classifier(artifact)

    def score(images_NHWC_u8: Images) -> Logits:
        with torch.inference_mode():
            logits_NK: Logits = classifier(torch.from_numpy(images_NHWC_u8)).numpy()
        return logits_NK

    yield score
