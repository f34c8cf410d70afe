"""Metrics of predictions in plain NumPy, independent of encoders and benchmarks."""
