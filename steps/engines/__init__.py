"""Names of engines and precisions, and what a runner takes and gives. No runtime is imported here."""
