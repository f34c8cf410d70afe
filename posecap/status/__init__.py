"""Outcomes of rows and clips, the ledger that stores them, and statistics by stage."""
