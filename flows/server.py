"""A temporary Prefect server for a run from the command line, which ends with it, however the run ends."""

import atexit
import subprocess
from typing import Any

from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

GUARD = 'read -r _; kill -KILL "$1"'  # nothing is ever written: the line ends when the writer does


def start_temporary_server() -> None:
    """Start the server that Prefect would start by itself, under guard; Prefect finds it, and stops it at exit."""
    # the database's folder: Prefect makes no parents
    get_current_settings().home.mkdir(parents=True, exist_ok=True)
    _GuardedServer().start()


class _GuardedServer(SubprocessASGIServer):
    """Prefect ends its temporary server at exit, which a killed process never reaches; the guard sees it gone."""

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        server = super()._run_uvicorn_command()
        command = ["sh", "-c", GUARD, "guard", str(server.pid)]
        guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        atexit.register(_dismiss, guard)  # called after Prefect's own, which is registered after this one
        return server


def _dismiss(guard: "subprocess.Popen[bytes]") -> None:
    guard.kill()
    guard.communicate()
