"""The GPU of this machine."""

import ctypes
from contextlib import suppress
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/version")


def this_gpu() -> str:
    """Return the first GPU's compute capability, such as "8.9", or "" without a working GPU."""
    import torch  # imported late: torch manages CUDA's memory and streams for the engines

    return "{}.{}".format(*torch.cuda.get_device_capability(0)) if torch.cuda.is_available() else ""


def gpu_and_driver() -> dict[str, str]:
    """Return the facts that an engine built on the first GPU depends on: GPU, driver and CUDA; {} without a GPU.

    Two GPUs of one compute capability can get different kernels, so name, processors and memory are included.
    """
    import torch

    if not this_gpu():
        return {}
    device = torch.cuda.get_device_properties(0)
    return {
        "gpu": f"{device.name}, {this_gpu()}, {device.multi_processor_count}, {device.total_memory}",
        "driver": DRIVER.read_text().partition("\n")[0] if DRIVER.is_file() else "",
        "CUDA of the driver": str(_cuda_of_driver()),
        "CUDA of torch": str(torch.version.cuda),
    }


def _cuda_of_driver() -> int:
    """Return the newest CUDA that the driver supports, such as 12040 (cuDriverGetVersion); 0 without one."""
    found = ctypes.c_int(0)
    with suppress(OSError):
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(found))
    return found.value
