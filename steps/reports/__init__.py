"""Each JSON file between steps as a typed class, and the plain texts that are made of them."""
