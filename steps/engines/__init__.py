"""Names of engines and precisions, and the contract of a runner. No runtime is imported here."""
