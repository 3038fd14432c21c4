"""The old names of `nonsmooth.dynamics.penalized_training`, for one version."""

from nonsmooth.dynamics.penalized_training import Magnitudes, Performance, Schedule, evaluate, magnitudes
from nonsmooth.dynamics.penalized_training import PenalizedHistory as History
from nonsmooth.dynamics.penalized_training import train_penalized as train_penalised

__all__ = ["History", "Magnitudes", "Performance", "Schedule", "evaluate", "magnitudes", "train_penalised"]
