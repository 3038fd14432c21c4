"""Choose how sparse a model is to be: paths over λ, choices, refitting on the support, stability selection.

Each name is loaded when it is first used: `rules` needs NumPy alone, `refit` torch, and the others the lab's extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nonsmooth.extras import require

if TYPE_CHECKING:
    from nonsmooth.select.chain import PathRun as PathRun
    from nonsmooth.select.path_results import PathPoint as PathPoint
    from nonsmooth.select.path_results import SparsityPath as SparsityPath
    from nonsmooth.select.paths import sparsity_path as sparsity_path
    from nonsmooth.select.refitting import Refit as Refit
    from nonsmooth.select.refitting import refit as refit
    from nonsmooth.select.stability import stability_selection as stability_selection
    from nonsmooth.select.stability_results import StabilitySelection as StabilitySelection

_MODULES = {
    "PathPoint": "path_results",
    "PathRun": "chain",
    "Refit": "refitting",
    "SparsityPath": "path_results",
    "StabilitySelection": "stability_results",
    "refit": "refitting",
    "sparsity_path": "paths",
    "stability_selection": "stability",
}
_WITHOUT_EXTRA = ("refitting",)
"""The module that needs torch alone."""

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'nonsmooth.select' has no attribute {name!r}")
    if _MODULES[name] not in _WITHOUT_EXTRA:
        require("reproduce", f"nonsmooth.select.{name}")
    value = globals()[name] = getattr(import_module(f"nonsmooth.select.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
