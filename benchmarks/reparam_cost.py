"""What a training step costs with branches, and with branches folded online, beside the plain network's step.

    python -m benchmarks.reparam_cost [--rounds 7] [--full] [--write]

Two costs: the bytes that the forward pass keeps for the backward pass (each storage once, parameters excluded),
and the CPU time of a whole step of the training line's own network, loss and optimizer, on one thread. The forms
take turns, and each is compared with the plain step of its own round; the one with a bound comes right after it.
ACB on ResNet-18 and RepVGG on A0 have bounds; the other blocks stand beside them. Published for OREPA on
ResNet-18 (Hu et al. 2022): 0.120 s / 0.086 s.
"""

import statistics
import time
from collections.abc import Callable
from itertools import product
from typing import get_args

import torch
from torch import Tensor, nn

from benchmarks.bounds import Figure, command_line, report
from steps.reparam.branches import BLOCKS
from steps.reparam.expand import Mode
from steps.reports.card import Expansion, Preprocessing
from steps.training.batch import Batch
from steps.training.loop import make_deterministic
from steps.training.losses import CrossEntropy
from steps.training.network import NetworkSpec, make_network
from steps.training.optimizers import set_learning_rate, sgd

PIXELS, BATCH, CLASSES = 64, 64, 100
MAX_RATIO = 1.15
PUBLISHED = 1.40
BOUNDED = {"resnet18": "acb", "repvgg_a0_plain": "repvgg"}
HOW = Preprocessing(
    size=PIXELS, resize=PIXELS, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


class Step:
    """One training step on one batch, to be taken again and again; without an expansion the plain network's."""

    def __init__(self, arch: str, expansion: Expansion | None) -> None:
        recipe = NetworkSpec(arch, CLASSES, HOW, None, 0.0, None, expansion, "standard")
        self.network: nn.Module = make_network(recipe, seed=0, device=torch.device("cpu")).network.train()
        self.optimizer = sgd(self.network, momentum=0.9, weight_decay=5e-4)
        set_learning_rate(self.optimizer, 1e-3)
        generator = torch.Generator().manual_seed(0)
        shape = (BATCH, PIXELS, PIXELS, 3)
        images_NHWC_u8 = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        self.batch = Batch(images_NHWC_u8, torch.randint(0, CLASSES, (BATCH,), generator=generator))

    def loss(self) -> Tensor:
        """Return the loss of the batch, with the graph for the way back."""
        return self.batch.mean(CrossEntropy(0.1)(self.network(self.batch.images_NHWC_u8), self.batch))

    def cpu_seconds(self) -> float:
        """Take the step and return the CPU time that it took."""
        begin = time.process_time()
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return time.process_time() - begin


def saved_bytes(network: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Return the bytes that a forward pass of the network keeps for the way back, its parameters excluded."""
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kept = forward()  # a freed storage's address would be given out again
    total = sum(saved.values())
    del kept
    return total


def main() -> None:
    """Measure every block and mode on each network, print the table, and hold online mode to its bounds."""
    parser = command_line("reparam_cost", __doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--full", action="store_true", help="40 rounds")
    arguments = parser.parse_args()
    make_deterministic()
    torch.set_num_threads(1)
    figures = []
    table = ["", "| network | block | mode | saved for backward | CPU time of a step |", "|---|---|---|---|---|"]
    for arch, bounded in BOUNDED.items():
        memory, seconds = _measured(arch, 40 if arguments.full else arguments.rounds)
        for block, mode in product(BLOCKS, get_args(Mode)):
            name = f"{block} {mode}"
            table.append(f"| {arch} | {block} | {mode} | × {memory[name]:.2f} | × {seconds[name]:.2f} |")
        chosen, title = f"{bounded} online", f"{arch}, {bounded} online / plain"
        figures.append(Figure(f"{title}: saved for backward", memory[chosen], "at most", MAX_RATIO))
        figures.append(Figure(f"{title}: CPU time of a step", seconds[chosen], "at most", MAX_RATIO))
    print(*table, sep="\n")
    print(f"published for a step of OREPA on ResNet-18, at 224 pixels on a GPU: × {PUBLISHED:.2f}")
    report(figures, arguments, table)


def _measured(arch: str, rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return, of each form, the saved bytes and the median CPU time of a step, over the plain network's."""
    plain = Step(arch, None)
    forms = sorted(product(BLOCKS, get_args(Mode)), key=lambda form: form != (BOUNDED[arch], "online"))
    steps = {
        f"{block} {mode}": Step(arch, Expansion(block=block, where="all", mode=mode)) for block, mode in forms
    }
    kept = saved_bytes(plain.network, plain.loss)
    memory = {name: saved_bytes(step.network, step.loss) / kept for name, step in steps.items()}
    ratios: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        own = plain.cpu_seconds()
        for name, step in steps.items():
            ratios[name].append(step.cpu_seconds() / own)
    return memory, {name: statistics.median(values[1:]) for name, values in ratios.items()}


if __name__ == "__main__":
    main()
