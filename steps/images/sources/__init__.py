"""Where images come from: each layout is a function from a Source to a Listing. No image file is opened."""
