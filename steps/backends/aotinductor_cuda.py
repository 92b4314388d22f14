"""CUDA's headers and the driver's library for AOTInductor, found in pip's wheels where there is no toolkit.

torch looks in CUDA_HOME, the variable of NVIDIA's installer. The wheels that torch depends on hold the headers in
`nvidia/cu*/include`, except two: `crt/host_defines.h` is in triton's copy, and `nv/target` in nvidia-cuda-cccl.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from steps.engines.contract import CannotBuild
from steps.files import sha256

# header -> the package with this header, for machines without a toolkit
NEEDED = {
    "cuda_runtime_api.h": "nvidia-cuda-runtime",
    "crt/host_defines.h": "nvidia-cuda-crt",
    "nv/target": "nvidia-cuda-cccl",
}
TOOLKIT = Path("/usr/local/cuda")


@contextmanager
def cuda_home(backend: str) -> Iterator[None]:
    """Let torch's compiler find headers and driver inside the context; raise CannotBuild with the missing headers.

    A toolkit, in CUDA_HOME or /usr/local/cuda, is used as it is.
    """
    folders = _folders()
    missing = [name for name in NEEDED if not any((folder / name).is_file() for folder in folders)]
    if missing:
        packages = ", ".join(f"{name} (package {NEEDED[name]})" for name in missing)
        raise CannotBuild(
            f"{backend} compiles against CUDA's headers, and {packages} is not there; install it, or set "
            "CUDA_HOME to a toolkit."
        )
    with tempfile.TemporaryDirectory() as home, _environment(Path(home), folders):
        yield


def headers() -> dict[str, str]:
    """Return header name -> checksum, for the headers that the compiler uses."""
    places = [(name, folder / name) for name in ("cuda.h", *NEEDED) for folder in reversed(_folders())]
    return {
        name: sha256(file) for name, file in places if file.is_file()
    }  # the compiler uses the first folder, so its header comes last here


def _folders() -> list[Path]:
    toolkit = Path(os.environ.get("CUDA_HOME", TOOLKIT)) / "include"
    return [toolkit] if (toolkit / "cuda.h").is_file() else include_folders()


def include_folders() -> list[Path]:
    """Return the wheels' folders with headers, NVIDIA's folders before triton's copy."""
    found = find_spec("nvidia"), find_spec("triton")
    nvidia, triton = (list(spec.submodule_search_locations or []) if spec else [] for spec in found)
    folders = [folder for root in nvidia for folder in sorted(Path(root).glob("cu*/include"))]
    return [*folders, *(Path(root) / "backends/nvidia/include" for root in triton)]


@contextmanager
def _environment(home: Path, folders: list[Path]) -> Iterator[None]:
    """Fill `home` with links and set it as CUDA_HOME; CPATH names the other folders to the compiler."""
    from torch.utils import cpp_extension

    (home / "include").symlink_to(folders[0].resolve())
    (home / "lib64").mkdir()
    (home / "lib64/libcuda.so").symlink_to(_driver())
    before = cpp_extension.CUDA_HOME, {name: os.environ.get(name) for name in ("CUDA_HOME", "CPATH")}
    paths = [str(folder) for folder in folders[1:]] + list(filter(None, [os.environ.get("CPATH")]))
    os.environ.update(CUDA_HOME=str(home), CPATH=os.pathsep.join(paths))
    if not paths:
        del os.environ["CPATH"]  # an empty CPATH would mean the working directory
    cpp_extension.CUDA_HOME = str(home)
    try:
        yield
    finally:
        cpp_extension.CUDA_HOME, values = before
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _driver() -> Path:
    """Return the driver's library that this process has loaded; a link named libcuda.so is often missing."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.split(maxsplit=5)[-1]
        if "/libcuda.so" in path:
            return Path(path)
    return Path("libcuda.so.1")  # the linker reports that the library is missing
