"""Bringing files here: transfers that resume, files that land whole, patience with hosts."""
