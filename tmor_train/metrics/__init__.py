"""Figures of predictions, a file each: plain NumPy, no knowledge of encoders or benchmarks."""
