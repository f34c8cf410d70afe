"""Frames on their way to clips: clocks, shots, what is taken."""
