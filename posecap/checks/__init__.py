"""Checks of a finished dataset on disk."""
