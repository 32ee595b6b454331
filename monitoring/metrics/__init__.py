"""The numbers in the backends' terms: the catalogue, samples, lines."""
