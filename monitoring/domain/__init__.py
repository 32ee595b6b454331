"""What the numbers mean: every formula with its source, and a session's record put through all of them.

Pure functions of the standard library and the record's types. They do no I/O and raise nothing for odd input: what
can't be computed is None or absent, never 0. How the results are named, labelled and sent is the business of
``metrics`` and the collector; what the store must look up for them comes in as :class:`~.derivation.Facts`.
"""
