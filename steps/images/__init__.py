"""Image files: finding, checking, decoding and preprocessing them for a network. No network is known here."""
