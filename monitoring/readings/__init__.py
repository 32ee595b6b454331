"""Readers' measurements: read from files, reports and settings, kept, and compared with the application's.

A reading is what one reader has measured of one exam's femora, tibiae and legs. From here on it has neither a name nor
an identifier, only keyed hashes. What agreement is, ``domain.agreement`` says; which session a reading belongs to, and
which of several is compared, ``store.readings``.
"""
