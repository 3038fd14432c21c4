"""The convex test problems: value, subgradient, minimiser, minimum and constants."""
