"""Text in, batches out: sources, tokenizer, token store, batch plan. Knows nothing of models."""
