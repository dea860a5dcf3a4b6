"""Features of runs, scores, methods of judging, error rates, clusters. Numbers only: it knows no paths and no
networks."""
