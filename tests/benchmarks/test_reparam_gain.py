"""A small sample of the benchmark of gains: every form trains, folds and is judged; a tar reads like a folder."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import reparam_gain
from benchmarks.gain_training import FORMS, Budget, Outcome, make, train
from benchmarks.image_sets import read_images, store
from benchmarks.reparam_gain import ARCHS, MAX_FOLD_ERROR, SMALL, fingerprint, interval

TINY = Budget("benchmarks.gain_training:small_body", train=24, test=12, epochs=1)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder of 36 JPEG files in 3 colours, of which 8 of each colour are for training."""
    draw = np.random.default_rng(0)
    for split, number in (("train", 8), ("test", 4)):
        for colour, name in enumerate(("blue", "green", "red")):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for index in range(number):
                pixels = draw.integers(0, 100, (16, 16, 3), np.uint8)
                pixels[:, :, colour] += 150
                Image.fromarray(pixels).save(tmp_path / "set" / split / name / f"{index}.jpg")
    return tmp_path / "set"


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_trained_folded_and_judged(tmp_path: Path, images: Path, form: str) -> None:
    store(tmp_path / "stored", *read_images(images))
    first, again = (train(tmp_path / "stored", TINY, form, seed=1) for _ in range(2))
    assert first == again
    assert first.form == form and 0 <= first.top1 <= 1
    assert first.fold_error <= MAX_FOLD_ERROR
    assert (first.fold_error > 0) == (form != "plain"), "a form that folds to the bit was not wide"


def test_a_tar_is_read_as_its_folder_is(tmp_path: Path, images: Path) -> None:
    with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as tar:
        for file in sorted(images.glob("*/*/*"), reverse=True):
            entry = tarfile.TarInfo(str(file.relative_to(images)))
            entry.size = file.stat().st_size
            tar.addfile(entry, io.BytesIO(file.read_bytes()))
    (pixels, labels, train), (others, other_labels, other_train) = map(
        read_images, (images, tmp_path / "set.tar.gz")
    )
    assert train == other_train == 24 and pixels.shape == (36, 16, 16, 3)
    assert labels[:train].tolist() == sorted([0, 1, 2] * 8) == other_labels[:train].tolist()
    for label in range(3):  # files of one class may come in a different order
        assert {image.tobytes() for image in pixels[labels == label]} == {
            image.tobytes() for image in others[other_labels == label]
        }


LARGE = "vgg16_cifar"  # each form draws its 15 million weights anew


@pytest.mark.parametrize(
    "arch", [pytest.param(arch, marks=pytest.mark.slow) if arch == LARGE else arch for arch in ARCHS]
)
def test_each_network_that_can_be_asked_for_takes_every_form(arch: str) -> None:
    for form in FORMS:
        made = make(arch, form, class_num=10, size=32, seed=0, device="cpu")
        assert bool(made.sites) == (form != "plain")


def test_a_gain_is_clear_where_the_interval_of_its_five_seeds_leaves_zero_out() -> None:
    # Mean 2 and standard deviation sqrt(2.5): the interval is 2 +- 2.776 * sqrt(2.5 / 5) = 2 +- 1.96.
    assert interval([0.0, 1.0, 2.0, 3.0, 4.0]) == "+0.04 .. +3.96, clear"
    assert interval([-0.1, 0.9, 1.9, 2.9, 3.9]) == "-0.06 .. +3.86"
    assert interval([-2.0, -2.0, -2.0, -2.0, -3.0]).endswith("clear")


def test_every_network_has_a_budget_for_a_cpu() -> None:
    assert all(SMALL[arch].arch == arch and SMALL[arch].epochs >= 4 for arch in ARCHS)


def test_what_was_trained_is_kept_and_not_trained_again(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(tmp_path / "stored", *read_images(images))
    monkeypatch.setattr(reparam_gain, "KEPT", tmp_path / "kept")
    monkeypatch.setattr(reparam_gain, "SEEDS", range(1))
    monkeypatch.setattr(reparam_gain, "FORMS", {"plain": None, "ACB": ("acb", "branch")})
    kept = tmp_path / "kept" / f"{fingerprint(tmp_path / 'stored', TINY, 'cpu')}.jsonl"
    first = reparam_gain._train_all(tmp_path / "stored", TINY, "cpu", workers=1)
    assert [outcome.form for outcome in first] == ["plain", "ACB"] and len(kept.read_text().splitlines()) == 2
    monkeypatch.setattr(reparam_gain, "train", lambda *_: pytest.fail("trained again"))
    assert reparam_gain._train_all(tmp_path / "stored", TINY, "cpu", workers=1) == first
    assert isinstance(first[0], Outcome)


def test_the_table_tells_how_many_images_there_were(tmp_path: Path, images: Path) -> None:
    store(tmp_path / "stored", *read_images(images))
    outcomes = [Outcome(form, 0.5, 0.0) for form in FORMS for _ in range(5)]
    for allowed, sizes in (
        (60_000, "24 images, 1 epochs, 12 test images"),
        (7, "7 images, 1 epochs, 7 test images"),
    ):
        budget = TINY._replace(train=allowed, test=allowed)
        lines = "\n".join(reparam_gain._table(tmp_path / "stored", budget, outcomes))
        assert f"stored (small_body, {sizes}, 5 seeds)" in lines


def test_an_outcome_is_kept_for_these_images_this_budget_and_this_device(tmp_path: Path, images: Path) -> None:
    store(tmp_path / "stored", *read_images(images))
    asked = (TINY, "cpu"), (TINY._replace(epochs=2), "cpu"), (TINY, "cuda")
    names = {fingerprint(tmp_path / "stored", budget, device) for budget, device in asked}
    (tmp_path / "stored/labels.npy").write_bytes(b"others")
    names.add(fingerprint(tmp_path / "stored", TINY, "cpu"))
    assert len(names) == 4
