"""The gate's judgement: is every form still the trained model? It reads what evaluate left, and no model."""
