"""Networks: architectures, last layers, model files, and costs. No pretrained file is read here."""
