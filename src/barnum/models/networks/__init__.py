"""The networks: what each computes, learns from, and how it scores."""
