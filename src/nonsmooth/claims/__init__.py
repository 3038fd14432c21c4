"""The claims of the paper: each is a plan, a measurement, a judgement and figures."""

from typing import TYPE_CHECKING, Any

from nonsmooth.extras import require

require("reproduce", "nonsmooth.claims")

if TYPE_CHECKING:
    from nonsmooth.claims.checking import check_claim

__all__ = ["check_claim"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nonsmooth.claims.checking import check_claim  # noqa: PLC0415  slow to load

    return check_claim
