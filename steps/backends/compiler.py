"""The C++ compiler of this machine, and all other facts that decide AOTInductor's code for a graph.

The folder of the compiler is not such a fact: the same compiler in another folder gives the same code.
"""

import hashlib
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch

WRITTEN = "aot_inductor.metadata"  # torch writes the last package's metadata into this setting
# Environment variables that change the compiler's headers or libraries, or torch's instructions.
VARIABLES = ("ATEN_CPU_CAPABILITY", "CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "OMP_PREFIX", "CONDA_PREFIX")


def find_compiler() -> str:
    """Return the compiler's command, or raise OSError where no compiler works."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return str(get_cpp_compiler())
    except InvalidCxxCompiler as fault:
        raise OSError(str(fault)) from fault


def compiling() -> dict[str, str]:
    """Return fact -> text, for all facts besides the graph and the packages that decide the compiled code.

    The facts are: compiler and linker (name and version), libc, the CPU's instructions and caches, the number of
    threads, torch's settings, and the environment variables in VARIABLES.
    """
    from torch._inductor import config

    return {
        "compiler": _version_line("--version"),
        "linker": _version_line("-Wl,--version"),
        "libc": " ".join(platform.libc_ver()),
        "cpu": json.dumps(dict(torch.cpu.get_capabilities()), sort_keys=True),
        "threads": str(torch.get_num_threads()),
        "settings": _digest(config.get_config_copy()),
        "environment": json.dumps({name: os.environ[name] for name in VARIABLES if name in os.environ}),
    }


def _digest(settings: Mapping[str, object]) -> str:
    """Return a checksum of all settings except WRITTEN.

    torch's own hash is not used, because torch stores its first value, with or without a package's metadata in it.
    """
    values = sorted((name, repr(value)) for name, value in settings.items() if name != WRITTEN)
    return hashlib.sha256(repr(values).encode()).hexdigest()


def _version_line(flag: str) -> str:
    """Return the first line of the compiler's output for a flag, or "" where there is no compiler."""
    try:
        command = shlex.split(find_compiler())
        ran = subprocess.run(
            [*command, flag],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError:
        return ""
    first = (ran.stdout or ran.stderr).partition("\n")[0]
    return first.replace(command[-1], Path(command[-1]).name)
