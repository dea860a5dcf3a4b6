"""Evaluation files, classifier and verdicts."""
