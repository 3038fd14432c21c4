"""Train functions that are not differentiable everywhere: proximal optimizers, measurements, claims that are tested.

The names that people type are here, `nonsmooth.ProxAdam`, `nonsmooth.L1`, and so are the subpackages,
`nonsmooth.optim`; each is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nonsmooth import curvature as curvature
    from nonsmooth import data as data
    from nonsmooth import dynamics as dynamics
    from nonsmooth import estimators as estimators
    from nonsmooth import figures as figures
    from nonsmooth import kinks as kinks
    from nonsmooth import lab as lab
    from nonsmooth import models as models
    from nonsmooth import optim as optim
    from nonsmooth import penalties as penalties
    from nonsmooth import problems as problems
    from nonsmooth import report as report
    from nonsmooth import select as select
    from nonsmooth.curvature import optimizer_sharpness as optimizer_sharpness
    from nonsmooth.curvature.kink_gap import kink_gap as kink_gap
    from nonsmooth.curvature.sharpness import sharpness as sharpness
    from nonsmooth.dynamics import stationary_law as stationary_law
    from nonsmooth.estimators import ProxClassifier as ProxClassifier
    from nonsmooth.estimators import ProxClassifierCV as ProxClassifierCV
    from nonsmooth.estimators import ProxRegressor as ProxRegressor
    from nonsmooth.estimators import ProxRegressorCV as ProxRegressorCV
    from nonsmooth.kinks import scan as scan
    from nonsmooth.kinks.crossings import crossings as crossings
    from nonsmooth.kinks.penalty_terms import penalty_terms as penalty_terms
    from nonsmooth.optim import RDA as RDA
    from nonsmooth.optim import XRDA as XRDA
    from nonsmooth.optim import ProxAdagrad as ProxAdagrad
    from nonsmooth.optim import ProxAdam as ProxAdam
    from nonsmooth.optim import ProxAdamW as ProxAdamW
    from nonsmooth.optim import ProxNAdam as ProxNAdam
    from nonsmooth.optim import ProxRMSprop as ProxRMSprop
    from nonsmooth.optim import ProxSGD as ProxSGD
    from nonsmooth.optim import SparsityTarget as SparsityTarget
    from nonsmooth.optim import SteadyAdagrad as SteadyAdagrad
    from nonsmooth.optim import SteadyAdam as SteadyAdam
    from nonsmooth.optim import SteadyAdamW as SteadyAdamW
    from nonsmooth.optim import SteadyNAdam as SteadyNAdam
    from nonsmooth.optim import SteadyRMSprop as SteadyRMSprop
    from nonsmooth.optim import SteadySGD as SteadySGD
    from nonsmooth.optim import averaged as averaged
    from nonsmooth.optim import certify as certify
    from nonsmooth.optim import penalize as penalize
    from nonsmooth.optim import takes_prox as takes_prox
    from nonsmooth.optim.attach import attach as attach
    from nonsmooth.optim.lasso_gap import lasso_gap as lasso_gap
    from nonsmooth.penalties import L0 as L0
    from nonsmooth.penalties import L1 as L1
    from nonsmooth.penalties import MCP as MCP
    from nonsmooth.penalties import SCAD as SCAD
    from nonsmooth.penalties import ElasticNet as ElasticNet
    from nonsmooth.penalties import GroupL1 as GroupL1
    from nonsmooth.penalties import Nuclear as Nuclear
    from nonsmooth.penalties import SparseGroupL1 as SparseGroupL1
    from nonsmooth.penalties import TransformedL1 as TransformedL1
    from nonsmooth.select import refit as refit
    from nonsmooth.select import sparsity_path as sparsity_path
    from nonsmooth.select import stability_selection as stability_selection

__version__ = "0.1.0"

_SUBPACKAGES = (
    "curvature data dynamics estimators figures kinks lab models optim penalties problems report select".split()
)
_HOMES = {
    name: f"nonsmooth.{home}"
    for home, names in {
        "curvature": "kink_gap optimizer_sharpness sharpness",
        "dynamics": "stationary_law",
        "estimators": "ProxClassifier ProxClassifierCV ProxRegressor ProxRegressorCV",
        "kinks": "crossings penalty_terms scan",
        "optim": "RDA XRDA ProxAdagrad ProxAdam ProxAdamW ProxNAdam ProxRMSprop ProxSGD SparsityTarget SteadyAdagrad "
        "SteadyAdam SteadyAdamW SteadyNAdam SteadyRMSprop SteadySGD attach averaged certify lasso_gap penalize "
        "takes_prox",
        "penalties": "L0 L1 MCP SCAD ElasticNet GroupL1 Nuclear SparseGroupL1 TransformedL1",
        "select": "refit sparsity_path stability_selection",
    }.items()
    for name in names.split()
}
# `from nonsmooth import *` must work without the extras that these need.
_WITH_EXTRAS = ("nonsmooth.estimators", "nonsmooth.select")
__all__ = ["__version__", *(name for name, home in _HOMES.items() if home not in _WITH_EXTRAS)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"nonsmooth.{name}")
    if name in _HOMES:
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value
    raise AttributeError(f"module 'nonsmooth' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBPACKAGES, *_HOMES})
