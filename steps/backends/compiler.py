"""The C++ compiler of this machine, and what else decides which code AOTInductor makes of a graph.

Where the compiler lies is none of it: the same one elsewhere makes the same code.
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

WRITTEN = "aot_inductor.metadata"  # a setting by its place, and what a package says of itself by its use
# Environment variables that lead the compiler to other headers or libraries, or torch to other instructions.
LEADING = ("ATEN_CPU_CAPABILITY", "CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "OMP_PREFIX", "CONDA_PREFIX")


def find_compiler() -> str:
    """Return the compiler's command, or raise OSError: there is none that works."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        return str(get_cpp_compiler())
    except InvalidCxxCompiler as fault:
        raise OSError(str(fault)) from fault


def compiling() -> dict[str, str]:
    """Return all besides a graph and the packages that compiled code depends on; a text a fact.

    The compiler and its linker (name and version), libc, whose symbols the code is bound to, the CPU's
    instructions and caches, the threads that loops are dealt out to, torch's settings, and what leads the
    compiler elsewhere.
    """
    from torch._inductor import config

    return {
        "compiler": _said("--version"),
        "linker": _said("-Wl,--version"),
        "libc": " ".join(platform.libc_ver()),
        "cpu": json.dumps(dict(torch.cpu.get_capabilities()), sort_keys=True),
        "threads": str(torch.get_num_threads()),
        "settings": _digest(config.get_config_copy()),
        "environment": json.dumps({name: os.environ[name] for name in LEADING if name in os.environ}),
    }


def _digest(settings: Mapping[str, object]) -> str:
    """Return a name for all settings but the one that the compiler writes into: what it says of the last package.

    torch's own hash of them is kept once made, and so has that package in it or not.
    """
    given = sorted((name, repr(value)) for name, value in settings.items() if name != WRITTEN)
    return hashlib.sha256(repr(given).encode()).hexdigest()


def _said(flag: str) -> str:
    """Return the first line of the compiler's answer, or "" where there is no compiler."""
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
