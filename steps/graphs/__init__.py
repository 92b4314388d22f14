"""ONNX graphs: written from a network, read, and changed. No engine is built or run here."""
