"""What can tell whose an image is, and how it is kept in: pseudonyms, header facts, secrets, the log filter.

Identities come in here and go out as a keyed hash, a fact that everybody of an age shares, or not at all: what isn't
on a list is left out, not cleaned. Numbers and codes that a host records don't pass here; records/ makes those plain.
"""
