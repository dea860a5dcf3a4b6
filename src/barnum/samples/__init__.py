"""Sample folders, memory maps, labels and sets of samples."""
