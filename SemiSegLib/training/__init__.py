"""The training loop and its parts: trainer, validation, log, signals, checkpoints, a session from start to report."""
