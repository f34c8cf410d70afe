"""Encoders out of checkpoints: loaded, run over clips, exported."""
