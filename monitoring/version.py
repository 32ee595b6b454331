"""The package's version, in a file of its own, so that what is inside of the package can read it."""

__version__ = "0.1.0"
