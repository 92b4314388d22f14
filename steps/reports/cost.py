"""The cost of a network: figures of its forms, measured latencies, and the comparison of networks."""

from typing import Literal

from pydantic import Field

from steps.reports.base import JsonFile

Form = Literal["trained", "plain"]
Runtime = Literal["pytorch", "onnxruntime"]
AccuracySource = Literal["measured", "published"]


class FormCost(JsonFile):
    """The figures of one form, for one image in eval mode. steps/models/flops.py counts the FLOPs."""

    parameters: int
    head: str  # the layer that gives the logits; "" where none was found
    head_parameters: int
    flops: int
    flops_by_kind: dict[str, int]
    multiply_adds: int  # of convolutions, linear layers and attention: "FLOPs" in many papers
    uncounted: tuple[str, ...]  # operators without a formula
    memory_access_bytes: int  # inputs + outputs + weights of each operation
    peak_live_bytes: int  # activations that a later operation still reads
    peak_held_bytes: int  # activations that eager PyTorch has not freed yet
    weight_file_bytes: int

    @property
    def head_share(self) -> float:
        """Return the last layer's share of the parameters."""
        return self.head_parameters / self.parameters if self.parameters else 0.0


class MeasuredLatency(JsonFile):
    """Milliseconds for one image; the calls of all forms were measured in turns."""

    form: Form
    runtime: Runtime
    median: float
    p10: float
    p90: float
    cpu_median: float  # CPU time of all threads; below `median` where other processes used the CPU


class Accuracy(JsonFile):
    """Top-1 in percent, and its source: measured on the data at hand, or published by others."""

    top1: float = Field(gt=1, le=100)  # a value of at most 1 would be a fraction
    source: AccuracySource


class CostCard(JsonFile):
    """One network as it trains (multi-branch if `block` is named), and plain (norms folded where possible)."""

    arch: str
    block: str | None
    trained: FormCost
    plain: FormCost
    latencies: tuple[MeasuredLatency, ...] = ()
    accuracy: Accuracy | None = None
    on_front: bool | None = None  # null: the accuracy or the latency is unknown

    def median(self, form: Form, runtime: Runtime) -> float | None:
        """Return the median latency of a form in a runtime, if it was measured."""
        found = [row.median for row in self.latencies if (row.form, row.runtime) == (form, runtime)]
        return found[0] if found else None


class CostReport(JsonFile):
    """A comparison of networks. The Pareto front is over the plain form's latency in `front_runtime` and top-1."""

    size: int
    class_num: int
    threads: int
    rounds: int
    front_runtime: Runtime
    versions: dict[str, str]
    cards: tuple[CostCard, ...]


def mark_front(cards: tuple[CostCard, ...], runtime: Runtime) -> tuple[CostCard, ...]:
    """Return the cards with `on_front` set, or null where the accuracy or the latency is unknown.

    A network is on the front if no other network is at least as fast and as accurate, and better in one of both.
    """
    known = {
        card.arch: (milliseconds, card.accuracy.top1)
        for card in cards
        if card.accuracy is not None and (milliseconds := card.median("plain", runtime)) is not None
    }
    beaten = {
        arch
        for arch, (slow, low) in known.items()
        if any(fast <= slow and high >= low and (fast, high) != (slow, low) for fast, high in known.values())
    }
    return tuple(
        card.model_copy(update={"on_front": card.arch not in beaten if card.arch in known else None})
        for card in cards
    )
