"""What does any program need? Independent of the configuration."""
