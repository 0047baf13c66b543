"""Who are we? Several processes, one run."""
