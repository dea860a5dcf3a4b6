"""Training of networks: data, trainer, checkpoints, processes that train together."""
