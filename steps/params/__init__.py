"""params.yaml, typed: every value that changes an output, and only those.

The whole file is checked at once, and all its faults are reported together with their keys.
"""

from steps.params.load import SHARED_KEYS, Params, load_params

__all__ = ["SHARED_KEYS", "Params", "load_params"]
