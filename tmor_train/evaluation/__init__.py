"""Evaluation of encoders on benchmarks: clips, frames and zero-shot, each run by the recipes of its configurations.

What they share lies here: how an encoder begins and looks at clips, what a task is, and trials with their results.
"""
