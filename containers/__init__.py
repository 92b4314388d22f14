"""Where a step meets an image, a mount, shared memory or a GPU, and nothing else does."""
