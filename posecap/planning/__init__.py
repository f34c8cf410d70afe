"""The plan: rows in parts, fixed before any work."""
