"""How a step runs: on the host or in an image, with which mounts, shared memory and GPUs. No step knows this."""
