"""Images: where they lie, what they are, how they become a network's input. No network is known here."""
