"""One form in its own process, which runs on request: `python -m tools.bench_child FOLDER THREADS`.

Each line of standard input is a number of images. Each line of standard output has the milliseconds of one call
with this number of images (wall-clock time, then CPU time) and the process's peak memory in bytes. tools.bench
starts this process.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np

from steps.backends.runner import open_runner
from steps.engines.artifact import read_probes
from steps.errors import StepError

WARM_CALLS = 2


def main() -> None:
    """Answer until standard input ends; a form that cannot be opened gives one sentence and exit code 2."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    try:
        run, _ = open_runner(folder, threads)
        probes_NHWC_u8 = read_probes(folder)
    except StepError as fault:
        print(fault, file=sys.stderr)
        sys.exit(fault.exit_code)
    print("ready", flush=True)
    warm = 0
    for line in sys.stdin:
        count = int(line)
        batch_NHWC_u8 = np.resize(probes_NHWC_u8, (count, *probes_NHWC_u8.shape[1:]))
        for _ in range(WARM_CALLS if count != warm else 0):
            run(batch_NHWC_u8)
        warm = count
        wall, cpu = time.perf_counter(), time.process_time()
        run(batch_NHWC_u8)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(wall * 1000, cpu * 1000, peak, flush=True)


if __name__ == "__main__":
    main()
