"""A trained model and what it answers: predictions, samples by rounds, files."""
