"""What scripts/compare-versions.py is made of: inputs, steps, and the comparison of what they leave."""
