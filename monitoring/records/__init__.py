"""What is kept of a session, and how a host's values become plain ones."""
