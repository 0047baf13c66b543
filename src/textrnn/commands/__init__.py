"""What was typed? One module per command."""
