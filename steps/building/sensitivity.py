"""Which layers lose most by int8, and how few of them must stay in float32.

Letters: N images, K classes.
"""

from collections.abc import Callable

import numpy as np

from steps.engines.contract import Logits


def worst_first(
    layers: tuple[str, ...], wanted_NK: Logits, logits_of_one: Callable[[str], Logits]
) -> tuple[str, ...]:
    """Return the layers by how far the logits move, in the sum of squares, where that one alone is in int8.

    `logits_of_one` gives the logits of the graph with one layer in int8. (The other way, one layer alone back in
    float32, tells nothing where two neighbours have to be: of planted outliers it found no set short of all.)
    """

    def moved(layer: str) -> float:
        return float(np.square(logits_of_one(layer) - wanted_NK).sum(dtype=np.float64))

    return tuple(sorted(layers, key=moved, reverse=True))


def fewest_left(
    ranked: tuple[str, ...], enough: float, agreement: Callable[[tuple[str, ...]], float]
) -> tuple[tuple[str, ...], float]:
    """Return the fewest of the worst layers that reach `enough`, and the agreement then; else all, and 1.

    Halves the number, as if agreement grew with it: where it does not, more may be left than need be, and the
    agreement is reached all the same.
    """
    few, many = 0, len(ranked)
    reached = 1.0
    while many - few > 1:
        middle = (few + many) // 2
        now = agreement(ranked[:middle])
        if now >= enough:
            many, reached = middle, now
        else:
            few = middle
    return ranked[:many], reached
