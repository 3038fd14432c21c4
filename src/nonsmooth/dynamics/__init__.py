"""Methods iterated over ensembles: recursions, step sizes, stationary laws, training."""

from nonsmooth.dynamics.ensemble import Run, iterate, subgradient_step
from nonsmooth.dynamics.proximal import proximal_step
from nonsmooth.dynamics.stationary import StationaryLaw, stationary_law
from nonsmooth.dynamics.step_sizes import Constant, Diminishing, Reducing

__all__ = [
    "Constant",
    "Diminishing",
    "Reducing",
    "Run",
    "StationaryLaw",
    "iterate",
    "proximal_step",
    "stationary_law",
    "subgradient_step",
]
