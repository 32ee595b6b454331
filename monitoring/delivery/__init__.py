"""What carries stored lines and totals to the backends, each on its own: queue, courier, thread.

At least once, never lost: a row leaves the store only after its backend has taken or refused it. The store below knows
nothing of threads and leases; what a backend's answer means is the sinks' business.
"""
