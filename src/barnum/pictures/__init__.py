"""What traces and evaluations look like: counts of sequences, learning curves, pictures."""
