"""The durable half: a SQLite store that keeps sessions, and the delivery of what they say."""
