"""What was typed? One file a command."""
