"""What goes in? Text in, batches out."""
