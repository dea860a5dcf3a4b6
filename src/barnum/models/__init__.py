"""First layer: one short file a model, the trainer and checkpoints."""
