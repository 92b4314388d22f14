"""Register this checkout at the Prefect server: the work pool, and the deployments of prefect.yaml.

`python -m flows.deployments` (make deploy) can be repeated at any time; prefect.yaml overwrites the server's data.
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
PATIENCE_SECONDS = 120.0  # a new server needs time until it answers


def main() -> int:
    """Create the missing work pool and register all deployments; return 0, or print a fault and return 1."""
    try:
        await_server()
    except BadInput as fault:
        say(f"deploy: {fault}")
        return 1
    create_pool()
    here = {**os.environ, "PWD": str(Path.cwd())}  # prefect.yaml uses PWD, and only shells keep PWD up to date
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    return subprocess.run(command, env=here).returncode


def await_server() -> None:
    """Wait until the server answers; raise BadInput after PATIENCE_SECONDS."""
    address = get_current_settings().api.url
    if not address:
        raise BadInput("no Prefect server is configured; set its address in prefect.toml or PREFECT_API_URL.")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _answers():
        if time.monotonic() > deadline:
            raise BadInput(f"no Prefect server answers at {address}; start one with `make server`.")
        time.sleep(0.5)


def create_pool() -> None:
    """Create the work pool that runs flows as processes on this machine, unless the pool exists."""
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
