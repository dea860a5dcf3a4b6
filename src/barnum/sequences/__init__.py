"""Vocabulary, windows and batches over many paths."""
