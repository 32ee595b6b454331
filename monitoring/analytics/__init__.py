"""Reads the store, and writes nothing."""
