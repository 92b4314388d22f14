"""ONNX graphs: write them from a network, read them, and change them. No engine is built or run here."""
