"""What a model is: how it predicts the next transfer, how it lies in files, and how it scores runs."""
