"""The gate's judgement: is every form still the model that was trained?

Each form is paired with `train`, image by image, on the same test set. What is judged stands in three tables:
`SOUND` (what no working model does), `FLOORS` and `PAIRED` (each a key of `gate:`).
"""
