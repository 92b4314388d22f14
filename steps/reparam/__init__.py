"""Structural re-parameterization: expand, fold and certify networks. No file is read or written here."""
