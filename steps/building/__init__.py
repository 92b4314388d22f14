"""How an engine is made of the exported graph: precision, int8, the build cache, proof of consistency."""
