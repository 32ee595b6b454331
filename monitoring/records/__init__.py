"""What is kept of a session, and how a host's values become plain ones.

Nothing here holds an identity, reads a file or knows a metric: a record is plain values under declared names, whatever
the host gave. What is computed of it is :mod:`monitoring.domain`'s, where it is kept :mod:`monitoring.store`'s.
"""
