"""Inference runtimes, one file each: engines are built, opened and run here. Names of engines are in `engines`."""
