"""Which layers lose most with int8, and the fewest layers that must stay in float32.

Letters: N images, K classes.
"""

from collections.abc import Callable

import numpy as np

from steps.engines.contract import Logits


def worst_first(
    layers: tuple[str, ...], expected_NK: Logits, logits_of_one: Callable[[str], Logits]
) -> tuple[str, ...]:
    """Return the layers, sorted by the squared change of the logits when only this layer is in int8.

    `logits_of_one` gives the logits of the graph with one layer in int8. (The opposite, one layer back in float32,
    fails where two neighbours must stay: with planted outliers, it found no set smaller than all layers.)
    """

    def change(layer: str) -> float:
        return float(np.square(logits_of_one(layer) - expected_NK).sum(dtype=np.float64))

    return tuple(sorted(layers, key=change, reverse=True))


def fewest_left(
    ranked: tuple[str, ...], enough: float, agreement: Callable[[tuple[str, ...]], float]
) -> tuple[tuple[str, ...], float]:
    """Return the fewest of the worst layers that reach the agreement `enough`, and the agreement; else all, and 1.

    The search halves the number of layers, as if the agreement always grew with the number. If it does not, the
    result has more layers than necessary, but always reaches the agreement.
    """
    low, high = 0, len(ranked)
    reached = 1.0
    while high - low > 1:
        middle = (low + high) // 2
        now = agreement(ranked[:middle])
        if now >= enough:
            high, reached = middle, now
        else:
            low = middle
    return ranked[:high], reached
