"""Train functions that are not differentiable everywhere: proximal optimisers, measurements, claims that are tested."""

__version__ = "0.1.0"
__all__ = ["__version__"]
