"""A temporary Prefect server for a run from the command line; the server always ends with the run."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from flows import child

EPHEMERAL = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}


def start_temporary_server() -> None:
    """Start the server that Prefect would start by itself, so that it ends with this process; Prefect stops it."""
    # Prefect does not create the parents of the database's folder.
    get_current_settings().home.mkdir(parents=True, exist_ok=True)
    _TiedServer().start()


class _TiedServer(SubprocessASGIServer):
    """A server that also ends when this process is killed; Prefect's server would end only at a normal exit."""

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        tied = [sys.executable, "-P", child.__file__, str(os.getpid()), "SIGKILL"]
        uvicorn = ["uvicorn", "--app-dir", str(Path(prefect.__file__).parent.parent), "--factory"]
        served = ["prefect.server.api.server:create_app", "--host", "127.0.0.1", "--port", str(self.port)]
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        return subprocess.Popen(
            [*tied, *uvicorn, *served, "--log-level", "error", "--lifespan", "on"],
            env={**os.environ, **EPHEMERAL, **settings},
            start_new_session=True,
        )
