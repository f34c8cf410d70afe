"""What goes out with a dataset: report, card, Croissant metadata."""
