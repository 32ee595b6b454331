"""What the numbers mean: pure functions of the standard library alone, each formula with its source.

They do no I/O and raise nothing for odd input: what can't be computed is None or absent, never 0.
"""
