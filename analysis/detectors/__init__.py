"""Landmark detectors: three classical ones built in, and trained ones as ONNX checkpoints."""
