"""Networks: architectures, last layers, model files, what a network costs. No pretrained file is read here."""
