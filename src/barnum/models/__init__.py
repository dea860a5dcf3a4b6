"""First layer: networks that predict the next transfer, their training and scoring."""
