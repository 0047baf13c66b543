"""Several processes as one run: who started them, what they agree on, and SLURM's part in it."""
