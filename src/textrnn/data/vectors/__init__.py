"""Pretrained word vectors: a package, a file or the Hub in, a table for the vocabulary out."""
