"""Pretrained word vectors: from a file, a package or the Hub to the embedding's table."""
