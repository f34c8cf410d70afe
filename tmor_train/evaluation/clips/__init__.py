"""Evaluations that classify whole clips: linear probes, fine-tuning, few labels, and a baseline of raw coordinates."""
