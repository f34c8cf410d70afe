"""Weights of models: where they come from, and reading them without running what they hold."""
