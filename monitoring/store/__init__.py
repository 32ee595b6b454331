"""The SQLite file: sessions, totals, what waits, and its limits."""
