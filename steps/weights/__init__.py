"""Pretrained weights: reading the files, mapping keys to a network, coverage, and the weights' preprocessing."""
