"""Second layer: evaluation files, features of runs, classifiers. Numbers only: it knows no paths and no
networks."""
