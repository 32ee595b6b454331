"""Speed and size, side by side in one run with what a user would otherwise pick: ``python -m benchmarks``.

Each figure is taken in a fresh process, against real servers or a server of faults that this run starts
and ends. Figures of one run can be compared with each other; those of two runs only with care.
"""
