"""Which image belongs to train, val or test, and the ledger that keeps it so. Takes columns, reads no image."""
