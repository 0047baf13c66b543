"""What computes? Batches in, logits out."""
