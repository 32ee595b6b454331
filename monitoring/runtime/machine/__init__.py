"""Samples the machine and its container during sessions."""
