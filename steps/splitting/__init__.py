"""The split (train, val or test) of each image, and the ledger that keeps it. Takes columns, reads no image."""
