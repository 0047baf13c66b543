"""What is recorded: identity, run directory, metrics, pictures, Weights & Biases. Knows nothing of cells."""
