"""The verb `sweep`: a W&B sweep file on all workers of this machine, with an account or without."""
