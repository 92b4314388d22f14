"""The GPU of this machine."""


def this_gpu() -> str:
    """Return the first GPU's compute capability, such as "8.9", or "" where there is none that works."""
    import torch  # only where an engine is to be built or run: torch carries CUDA's memory and streams for us

    return "{}.{}".format(*torch.cuda.get_device_capability(0)) if torch.cuda.is_available() else ""
