"""Recurrent text classifiers: PyTorch Lightning, Hydra and Weights & Biases."""
