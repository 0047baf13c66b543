"""What does any program need? Knows no key of a run."""
