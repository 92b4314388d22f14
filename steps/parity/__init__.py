"""The gate's judgement: is every form still the trained model? The room reads evaluate's files, no model."""
