"""Train functions that are not differentiable everywhere: reproduce, fix, diagnose, check."""

__version__ = "0.1.0"
__all__ = ["__version__"]
