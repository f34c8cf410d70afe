"""Documents that are published with a dataset: report, card, Croissant metadata."""
