"""What the stored sessions say when they are looked at together, or again under newer formulas.

Reads the store and changes nothing in it; what was delivered stays as it is. Nothing here is needed while an image is
processed, so that no host loads it.
"""
