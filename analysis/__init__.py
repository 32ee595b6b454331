"""Measures femora and tibiae on long-leg radiographs: the application that is watched.

`pipeline` is what a caller needs; everything here runs without knowing who watches it.
"""
