"""The numbers in the backends' terms: what a metric is called, which labels it takes, and how a line is written.

No name, unit or label exists outside the catalogue, and no label grows with the number of studies. Nothing here
computes a value (``domain`` does), does I/O, or knows one backend's HTTP.
"""
