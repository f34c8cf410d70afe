"""One class for each clip: linear probes, fine-tuning, few labels, and raw coordinates beside them."""
