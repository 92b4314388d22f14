"""Tell the Prefect server about this checkout: its work pool, and the deployments of prefect.yaml.

`python -m flows.deployments` (make deploy) may be run again at any time; what stands in prefect.yaml wins.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessWorker

from steps.errors import BadInput
from steps.progress import say

POOL = "local"
PATIENCE_SECONDS = 120.0  # a server that was started a moment ago is on its way


def main() -> int:
    """Create the pool where it is missing, deploy all; return 0, or 1 with a sentence."""
    try:
        await_server()
    except BadInput as fault:
        say(f"deploy: {fault}")
        return 1
    create_pool()
    here = {**os.environ, "PWD": str(Path.cwd())}  # prefect.yaml names it; only shells keep it up to date
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    return subprocess.run(command, env=here).returncode


def await_server() -> None:
    """Return when the server answers, or raise BadInput when it does not."""
    address = get_current_settings().api.url
    if not address:
        raise BadInput("no Prefect server is named; prefect.toml or PREFECT_API_URL should do so.")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _answers():
        if time.monotonic() > deadline:
            raise BadInput(f"no Prefect server answers at {address}; start one with `make server`.")
        time.sleep(0.5)


def create_pool() -> None:
    """Create the pool that runs a flow as a process of this machine, unless it is there."""
    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template))
        except ObjectAlreadyExists:
            return
    say(f"created the work pool '{POOL}'")


def _answers() -> bool:
    with get_client(sync_client=True) as client:
        return client.api_healthcheck() is None


if __name__ == "__main__":
    sys.exit(main())
