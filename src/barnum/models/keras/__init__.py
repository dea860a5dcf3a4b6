"""Models of Keras 2, read as they were published."""
