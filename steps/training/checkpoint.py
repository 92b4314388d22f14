"""Checkpoints: everything that going on needs, in files that are there whole or not at all, and never a pickle.

Checkpoints lie under a fingerprint of params, inputs and code, so that a training never goes on with the weights
of another. `last.safetensors` holds the state of every part (state.py) and, as JSON in its metadata, the progress;
`best-<epoch>.safetensors` holds the best network. The best is written first and named by its epoch: whenever a
kill comes, `last` names a best that is there.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from steps.files import write_whole
from steps.training.history import EpochRow, Progress
from steps.training.state import Parts

LAST = "last.safetensors"
FINISHED = "finished"
KEPT_TRAININGS = 3  # unfinished ones: a person who goes back to older params finds the checkpoint


def fingerprint(facts: Iterable[str], code: Iterable[Path]) -> str:
    """Return the name of the checkpoints of a training: facts, code, torch and threads change it."""
    digest = hashlib.sha256()
    for fact in [*facts, torch.__version__, str(torch.get_num_threads())]:
        digest.update(f"{len(fact)}:{fact}".encode())
    for file in sorted(path for entry in code for path in ([entry] if entry.is_file() else entry.glob("*.py"))):
        digest.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:32]


def has_last(folder: Path) -> bool:
    """Return whether there is a checkpoint to go on from."""
    return (folder / LAST).is_file()


def save_last(folder: Path, parts: Parts, progress: Progress) -> None:
    """Write `last`, unless a weight is not finite: the checkpoint before it is then the last good one."""
    states = {name: part.state() for name, part in parts.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in states["network"].values()):
        return
    tensors = {f"{part}.{name}": tensor for part, state in states.items() for name, tensor in state.items()}
    _write(folder / LAST, tensors, {"progress": json.dumps(asdict(progress))})
    _remove_other_bests(folder, progress.best_epoch)


def load_last(folder: Path, parts: Parts) -> Progress | None:
    """Restore every part as `last` holds it, and return the progress; None where there is no checkpoint."""
    if not has_last(folder):
        return None
    tensors = load_file(folder / LAST)
    for name, part in parts.items():
        part.restore(_under(f"{name}.", tensors))
    with safe_open(folder / LAST, framework="pt") as file:
        return _progress(json.loads(file.metadata()["progress"]))


def save_best(folder: Path, model: nn.Module, epoch: int) -> None:
    """Write the network of `epoch` beside the best so far; `save_last` removes files that it does not name."""
    _write(_best(folder, epoch), dict(model.state_dict()), {})


def load_best(folder: Path, model: nn.Module, epoch: int) -> None:
    """Put the weights of the best epoch into the network."""
    model.load_state_dict(load_file(_best(folder, epoch)))


def mark_finished(folder: Path) -> None:
    """Mark the training as finished; its checkpoints may go once the model has its final name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FINISHED).touch()


def discard_finished(trainings: Path) -> None:
    """Delete the checkpoints of every training that is marked finished."""
    for marker in trainings.glob(f"*/{FINISHED}"):
        shutil.rmtree(marker.parent)


def discard_old(trainings: Path, keep: Path) -> None:
    """Delete the checkpoints of all trainings except `keep` and the KEPT_TRAININGS most recent ones."""
    others = [folder for folder in trainings.glob("*") if folder.is_dir() and folder != keep]
    others.sort(key=lambda folder: folder.stat().st_mtime_ns, reverse=True)
    for folder in others[KEPT_TRAININGS:]:
        shutil.rmtree(folder)


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    # Copies in plain order: safetensors stores no strides, and refuses tensors that share memory.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    write_whole(path, save(plain, metadata))


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _progress(stored: dict[str, object]) -> Progress:
    rows = stored.pop("history")
    assert isinstance(rows, list)
    return Progress(**stored, history=[EpochRow(**row) for row in rows])  # type: ignore[arg-type]


def _best(folder: Path, epoch: int) -> Path:
    return folder / f"best-{epoch:05d}.safetensors"


def _remove_other_bests(folder: Path, epoch: int | None) -> None:
    for file in folder.glob("best-*.safetensors"):
        if epoch is None or file != _best(folder, epoch):
            file.unlink()
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()
