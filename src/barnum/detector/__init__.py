"""A detector: a model and a classifier in one folder, and judging by it."""
