"""params.yaml, typed: every value that changes an output, and only those. All faults are reported at once."""

from steps.params.load import SHARED_KEYS, Params, load_params

__all__ = ["SHARED_KEYS", "Params", "load_params"]
