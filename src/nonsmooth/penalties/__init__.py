"""Penalties: value, proximal map, distance to the subdifferential."""
