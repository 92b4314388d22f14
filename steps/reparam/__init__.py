"""Structural re-parameterization: expand, fold and certify. Takes modules and tensors, and knows no file."""
