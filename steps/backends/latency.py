"""The latency of a form on this machine. The figures are in .foldline/, because no stage may depend on them.

Letters: N images.
"""

import time
from pathlib import Path

import numpy as np

from steps.backends.runner import open_runner
from steps.engines.contract import Images, Runner
from steps.reports.evaluate import Latency

BATCHES = (1, 32)
SECONDS_PER_BATCH_SIZE = 0.6
MOST_CALLS = 200


def measure_latency(folder: Path, form: str, images_NHWC_u8: Images) -> Latency:
    """Return the form's latencies on one thread, in milliseconds a call; this takes a second or two."""
    run, card = open_runner(folder, threads=1)
    repeated_NHWC_u8 = np.resize(images_NHWC_u8, (max(BATCHES), *images_NHWC_u8.shape[1:]))
    percentiles = {size: _percentiles(run, repeated_NHWC_u8[:size]) for size in BATCHES}
    return Latency(form=form, takes=card.takes, threads=1, milliseconds=percentiles)


def _percentiles(run: Runner, batch_NHWC_u8: Images) -> dict[str, float]:
    run(batch_NHWC_u8)  # the first call allocates memory
    end = time.perf_counter() + SECONDS_PER_BATCH_SIZE
    calls: list[float] = []
    while len(calls) < 3 or (len(calls) < MOST_CALLS and time.perf_counter() < end):
        begin = time.perf_counter()
        run(batch_NHWC_u8)
        calls.append((time.perf_counter() - begin) * 1000)
    return {f"p{share}": float(np.percentile(calls, share)) for share in (50, 90, 99)}
