"""The SQLite file: sessions, totals, what waits for the backends, and the file's limits.

A finished session is in it before the host goes on, whole or not at all, and each backend takes from it what it
hasn't had. Whatever is wrong with the file is raised as :class:`~monitoring.exceptions.StoreError`. What is derived of
a record is computed by the collector and handed in; nothing here knows a network, and a backend is but a name.
"""
