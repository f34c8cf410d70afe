"""Results as one HTML page that needs nothing else: a file for each of its sections."""
