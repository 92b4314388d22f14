"""Each JSON file between steps as a typed class, and the plain text files that the steps write from them."""
