"""Landmark detectors: three classical ones built in, and trained ones as ONNX checkpoints.

A detector sees one image and its spacing: no header, and no other detector's answer. The three look at different things
(edges, brightness, shapes), so that they seldom err together; what they agree on is the ensemble's to say.
"""
