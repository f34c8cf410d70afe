"""Rows: manifests and their tables, read strictly."""
