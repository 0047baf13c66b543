"""Batches in, logits out: cells, encoder, classifier. Knows nothing of where reviews come from."""
