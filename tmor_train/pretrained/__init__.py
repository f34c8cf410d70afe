"""Trained encoders in use: loaded from checkpoints, run on clips, exported to ONNX."""
