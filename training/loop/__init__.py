"""The training loop: one run, with checkpoints, early stopping and EMA."""
