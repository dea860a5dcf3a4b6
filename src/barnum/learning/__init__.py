"""Learning sessions: from samples to a model and the evaluations of held-out runs."""
