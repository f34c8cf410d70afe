"""Pre-training: its loop, state, optimiser and schedule, checkpoints and metrics."""
