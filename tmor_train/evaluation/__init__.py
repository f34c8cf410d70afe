"""Evaluation of encoders on benchmarks: a file for each way of it, each run by the recipes of its configuration."""
