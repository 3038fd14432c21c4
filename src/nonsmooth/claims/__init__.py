"""The claims of the paper: each is a study, of experiments, findings, a rule and figures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nonsmooth.extras import require

require("reproduce", "nonsmooth.claims")

if TYPE_CHECKING:
    from nonsmooth.claims.framework import *  # noqa: F403
    from nonsmooth.claims.framework.checking import check_claim
    from nonsmooth.claims.framework.registry import claim_ids, load_claim, measure_cell
    from nonsmooth.claims.framework.results import stored_records
    from nonsmooth.claims.framework.run_folder import read_settings

__all__ = ["check_claim", "claim_ids", "load_claim", "measure_cell", "read_settings", "stored_records"]

_HOME = {
    "check_claim": "checking",
    "claim_ids": "registry",
    "load_claim": "registry",
    "measure_cell": "registry",
    "read_settings": "run_folder",
    "stored_records": "results",
}


def __getattr__(name: str) -> Any:
    """These and the names of `nonsmooth.claims.framework`, loaded when they are asked for."""
    if name in _HOME:
        return getattr(import_module(f"nonsmooth.claims.framework.{_HOME[name]}"), name)
    framework = import_module("nonsmooth.claims.framework")
    if name in framework.__all__:
        return getattr(framework, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
