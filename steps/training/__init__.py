"""How a network learns: loop, losses, samplers, optimizers, checkpoints. Takes batches, decodes no image."""
