"""Monitoring that is switched on: sessions, the store at work, and how it ends."""
