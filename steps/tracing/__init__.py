"""Observe a network while one example goes through it: the data flow between modules, and the outputs."""
