"""Measures femora and tibiae on long-leg radiographs: the application that is watched.

`pipeline` is what a caller needs; everything here runs without knowing who watches it.
"""

from __future__ import annotations

__version__ = "0.1.0"
