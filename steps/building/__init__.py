"""How an engine is built from the exported graph: precision, int8, the build cache, checks of consistency."""
