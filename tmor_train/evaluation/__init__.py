"""Evaluation of encoders on benchmarks: clips, frames and zero-shot, each run by the recipes of its configurations.

This package has what they share: settings, encoders and their features, tasks, the training loop, and trials with
their results.
"""
