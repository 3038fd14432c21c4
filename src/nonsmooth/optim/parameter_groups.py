"""Which parameters of a model carry a penalty: weights do, biases and normalisation parameters do not."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from nonsmooth.optim.penalty_reader import specified
from nonsmooth.optim.proximal_step import check_group
from nonsmooth.penalties import Penalty


def penalize(
    model: nn.Module, penalty: Penalty, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Make parameter groups for an optimiser: one with the penalty, one without.

    A parameter is penalised if it has at least two dimensions: so are the weights of linear, convolutional, recurrent,
    attention and embedding layers, and neither biases nor what normalisation layers scale by. Exceptions are named by
    patterns as in a shell, matched against the names that `model.named_parameters()` gives.

    Args:
        model: the network.
        penalty: λR.
        include: patterns of parameters to penalise in any case, such as a vector of coefficients.
        exclude: patterns of parameters not to penalise, such as "head.*"; stronger than `include`.

    Returns:
        Groups with the parameters and their names, for any optimiser of `nonsmooth.optim`; frozen parameters are left
        out. A group that would be empty is left out as well.

    Raises:
        TypeError: the penalty is none, or patterns are one string instead of several.
        ValueError: a pattern matches no parameter, nothing is left to penalise, or the penalty does not fit.
    """
    if not isinstance(penalty, Penalty):
        raise TypeError(f"penalty is {penalty!r}; accepted is a nonsmooth.penalties.Penalty")
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    wanted, unwanted = (
        _matches(kind, patterns, named) for kind, patterns in (("include", include), ("exclude", exclude))
    )
    chosen = [
        name for name, parameter in named.items() if name not in unwanted and (name in wanted or parameter.ndim > 1)
    ]
    if not chosen:
        raise ValueError(
            "model has no parameter to penalise: all have fewer than two dimensions, are frozen, or match exclude; "
            "name some by include"
        )
    rest = [name for name in named if name not in set(chosen)]
    groups = [
        {"params": [(name, named[name]) for name in names], "penalty": value}
        for names, value in ((chosen, penalty), (rest, None))
        if names
    ]
    check_group({"params": [named[name] for name in chosen], "param_names": chosen, "penalty": specified(penalty)})
    return groups


def _matches(argument: str, patterns: Iterable[str], names: Iterable[str]) -> set[str]:
    """The names that some pattern matches."""
    if isinstance(patterns, str):
        raise TypeError(f"{argument} is the string {patterns!r}; accepted are several patterns, such as [{patterns!r}]")
    found: set[str] = set()
    for pattern in patterns:
        matching = {name for name in names if fnmatchcase(name, pattern)}
        if not matching:
            raise ValueError(f"{argument} has {pattern!r}, which matches none of {', '.join(names)}")
        found |= matching
    return found
