"""Layouts of a data set: each layout is a function from a Source to a Listing. No image file is opened here."""
