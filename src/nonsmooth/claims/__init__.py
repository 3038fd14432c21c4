"""The claims of the paper: each is a study, of experiments, findings, a rule and figures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nonsmooth.extras import require

require("reproduce", "nonsmooth.claims")

if TYPE_CHECKING:
    from nonsmooth.claims.framework import *  # noqa: F403
    from nonsmooth.claims.framework.checking import check_claim

__all__ = ["check_claim"]


def __getattr__(name: str) -> Any:
    """The names of `nonsmooth.claims.framework`, and `check_claim`, loaded when they are asked for."""
    if name == "check_claim":
        return import_module("nonsmooth.claims.framework.checking").check_claim
    framework = import_module("nonsmooth.claims.framework")
    if name in framework.__all__:
        return getattr(framework, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
