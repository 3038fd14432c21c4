"""The old names of `nonsmooth.dynamics.optimizer_rule`, for one version."""

from nonsmooth.dynamics.optimizer_rule import OptimizerRule as Optimised

__all__ = ["Optimised"]
