"""Checkpoints: everything that going on needs, in files that are there whole or not at all, and never a pickle.

They lie under a fingerprint of params, inputs and code, so that a training never goes on with another one's
weights. `last.safetensors` holds the network, the optimizer's momentum, torch's random state and, as JSON in its
metadata, the progress reached and the figures so far; `best-<epoch>.safetensors` holds the best network. The best
is written first and named by its epoch: whatever instant a kill chooses, `last` names a best that is there.
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
from torch.optim import SGD

from steps.files import write_whole
from steps.training.history import EpochRow, Progress

LAST = "last.safetensors"
FINISHED = "finished"
KEPT_TRAININGS = 3  # unfinished ones, so that going back to older params finds its checkpoint
RANDOM = "random"


def fingerprint(facts: Iterable[str], code: Iterable[Path]) -> str:
    """Return the name under which a training of these facts by these source files keeps its checkpoints."""
    digest = hashlib.sha256()
    for fact in [*facts, torch.__version__, str(torch.get_num_threads())]:
        digest.update(f"{len(fact)}:{fact}".encode())
    for file in sorted(path for entry in code for path in ([entry] if entry.is_file() else entry.glob("*.py"))):
        digest.update(f"{file.name}:{hashlib.sha256(file.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()[:32]


def has_last(folder: Path) -> bool:
    """Return whether there is a checkpoint to go on from."""
    return (folder / LAST).is_file()


def save_last(folder: Path, model: nn.Module, optimizer: SGD, progress: Progress) -> None:
    """Write `last`, unless a weight is not finite: the checkpoint before it is then the last good one."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        return
    tensors |= {f"momentum.{name}": tensor for name, tensor in _momentum(model, optimizer).items()}
    tensors |= {f"{RANDOM}.{device}": state for device, state in _random_states().items()}
    _write(folder / LAST, tensors, {"progress": json.dumps(asdict(progress))})
    _remove_other_bests(folder, progress.best_epoch)


def load_last(folder: Path, model: nn.Module, optimizer: SGD) -> Progress | None:
    """Put network, momentum and random state back as `last` holds them, and return its progress; None if none."""
    if not has_last(folder):
        return None
    device = str(next(model.parameters()).device)
    tensors = load_file(folder / LAST, device=device)
    model.load_state_dict(_under("model.", tensors))
    momentum = _under("momentum.", tensors)
    for name, parameter in model.named_parameters():
        if name in momentum:
            # in the parameter's own layout, which the fused step takes for granted
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter).copy_(momentum[name])
    _restore_random_states(_under(f"{RANDOM}.", tensors))
    with safe_open(folder / LAST, framework="pt") as file:
        return _progress(json.loads(file.metadata()["progress"]))


def save_best(folder: Path, model: nn.Module, epoch: int) -> None:
    """Write the network of `epoch` beside the best so far; `save_last` removes what it no longer names."""
    _write(_best(folder, epoch), dict(model.state_dict()), {})


def load_best(folder: Path, model: nn.Module, epoch: int) -> None:
    """Put the weights of the best epoch into the network."""
    model.load_state_dict(load_file(_best(folder, epoch)))


def mark_finished(folder: Path) -> None:
    """Say that this training's model has been written; it may go once the model has its final name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FINISHED).touch()


def discard_finished(trainings: Path) -> None:
    """Delete the checkpoints of every training that is marked finished."""
    for marker in trainings.glob(f"*/{FINISHED}"):
        shutil.rmtree(marker.parent)


def discard_old(trainings: Path, keep: Path) -> None:
    """Delete the checkpoints of all trainings but `keep` and the few that were worked on last."""
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


def _momentum(model: nn.Module, optimizer: SGD) -> dict[str, Tensor]:
    buffers = {
        name: optimizer.state[parameter].get("momentum_buffer")
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
    }
    return {name: buffer for name, buffer in buffers.items() if buffer is not None}


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_random_states(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())


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
