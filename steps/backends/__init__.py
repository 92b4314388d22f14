"""Inference runtimes, one file each: an engine is opened, run and built here. Nothing that only names engines."""
