"""One HTTP request under one deadline, and what a sink takes and gives.

Nothing here knows the settings, retries, follows a redirect, or raises for what the network does: the sinks above
judge an answer, and the outbox decides what becomes of the lines.
"""
