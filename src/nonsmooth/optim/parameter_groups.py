"""Which parameters of a model carry a penalty: weights do, biases and normalisation parameters do not."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from itertools import compress
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nonsmooth.foreign_text import visible
from nonsmooth.optim.group_checks import check_group
from nonsmooth.optim.penalty_reader import to_specification
from nonsmooth.optim.reparametrized import uses
from nonsmooth.penalties import Penalty, from_specification


def penalize(
    model: nn.Module, penalty: Penalty, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Make parameter groups for an optimiser: one with the penalty, one without.

    A parameter is penalised if it has at least two dimensions: so are the weights of linear, convolutional, recurrent,
    attention and embedding layers, and neither biases nor what normalisation layers scale by. Exceptions are named by
    patterns as in a shell, matched against the names that `model.named_parameters()` gives.

    A parameter that the model does not use directly as a weight is left out, and a warning names it: the factors of
    weight norm and spectral norm, what another parametrization makes a weight of, and what a module's `forward`, by
    its source, divides by a norm. `include` takes it in, but not where a zero would be divided by a zero.

    Args:
        model: the network.
        penalty: λR.
        include: patterns of parameters to penalise in any case, such as a vector of coefficients.
        exclude: patterns of parameters not to penalise, such as "head.*"; stronger than `include`. A parameter that
            several modules share is named by each of its names.

    Returns:
        Groups with the parameters and their names, for any optimiser of `nonsmooth.optim`; frozen parameters are left
        out. A group that would be empty is left out as well.

    Raises:
        TypeError: not a model, not a penalty, or patterns are one string instead of several.
        ValueError: a pattern matches no parameter, nothing is left to penalise, the penalty does not fit, a lazy
            module does not know its shape yet, or a parameter that the model divides by its norm is named by `include`.
    """
    if not isinstance(penalty, Penalty):
        raise TypeError(f"penalty is {penalty!r}; accepted is a nonsmooth.penalties.Penalty")
    check_model(model)
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    chosen = choose(model, named, include, exclude)
    rest = [name for name in named if name not in set(chosen)]
    groups = [
        {"params": [(name, named[name]) for name in names], "penalty": value}
        for names, value in ((chosen, penalty), (rest, None))
        if names
    ]
    check_group(
        {"params": [named[name] for name in chosen], "param_names": chosen, "penalty": to_specification(penalty)}
    )
    return groups


def check_model(model: Any) -> None:
    """Raise unless it is a module.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; accepted is a torch.nn.Module")


def choose(model: nn.Module, named: Mapping[str, Tensor], include: Iterable[str], exclude: Iterable[str]) -> list[str]:
    """The names of the parameters that get a penalty; a warning names those that are left out for a hidden reason.

    Args:
        model: the network.
        named: the parameters to choose from.
        include: as for `penalize`.
        exclude: as for `penalize`.

    Raises:
        TypeError: patterns are one string instead of several.
        ValueError: as for `penalize`.
    """
    names = {parameter: name for name, parameter in named.items()}
    # A parameter that is shared has as many names as places, and a pattern may mean any of them.
    everywhere = model.named_parameters(remove_duplicate=False)
    called = {name: names[parameter] for name, parameter in everywhere if parameter in names}
    wanted, unwanted = (
        _matches(kind, patterns, called) for kind, patterns in (("include", include), ("exclude", exclude))
    )
    allowed = {name: parameter for name, parameter in named.items() if name not in unwanted}
    if lazy := [name for name, parameter in allowed.items() if is_lazy(parameter)]:
        raise ValueError(
            f"model has parameters whose shape a lazy module does not know yet: {', '.join(lazy)}; run one forward "
            "pass first, or name them by exclude"
        )
    known = uses(model)
    special = {name: known[parameter] for name, parameter in allowed.items() if parameter in known}
    if refused := [name for name, use in special.items() if use.divided and name in wanted]:
        name = refused[0]
        raise ValueError(f"include has {name}, {special[name].reason}; accepted are parameters that are weights")
    reasons: dict[str, list[str]] = {}
    for name, use in special.items():
        if allowed[name].ndim > 1 and name not in wanted:
            reasons.setdefault(use.reason, []).append(name)
    left = "; ".join(f"{', '.join(names)}, {reason}" for reason, names in reasons.items())
    chosen = [
        name for name, parameter in allowed.items() if name in wanted or (parameter.ndim > 1 and name not in special)
    ]
    if not chosen:
        raise ValueError(
            "model has no parameter to penalise: all have fewer than two dimensions, are frozen, or match exclude; "
            "name some by include" + (f". Not penalised: {left}" if left else "")
        )
    if left:
        warnings.warn(f"not penalised: {left}", UserWarning, stacklevel=_depth())
    return chosen


def warn_of_vectors(unnamed: Iterable[tuple[str, int]]) -> None:
    """Warn where a penalty that was given for everything lands on biases and scales beside weights.

    A vector alone is the model itself, such as the coefficients of a linear model.

    Args:
        unnamed: the parameters that were not named, with their numbers of dimensions.
    """
    unnamed = list(unnamed)
    vectors = [name for name, ndim in unnamed if ndim < 2]
    if vectors and len(vectors) < len(unnamed):
        more = f" and {len(vectors) - 3} more" if len(vectors) > 3 else ""
        warnings.warn(
            f"the penalty is on {', '.join(vectors[:3])}{more} too, of fewer than two dimensions as biases and scales "
            "of normalisation layers are; use penalize(model, penalty) or attach(..., model=model) for weights only, "
            "or give the groups their penalties",
            UserWarning,
            stacklevel=_depth(),
        )


def dimensions(index: int, group: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The numbers of dimensions of a group's parameters, by name; without those that do not know it yet."""
    return [(name, parameter.ndim) for name, parameter in named_parameters(index, group) if not is_lazy(parameter)]


def _depth() -> int:
    """How far up, as `warnings.warn` counts, the code lies that called this package, perhaps through torch."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("nonsmooth", "torch"):
        level, frame = level + 1, frame.f_back
    return level


def penalty_of(group: Mapping[str, Any]) -> Penalty | None:
    """The penalty that lies in a group, as its specification or as an object; None without one."""
    specification = to_specification(group.get("penalty"))
    return None if specification is None else from_specification(specification)


def named_parameters(index: int, group: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """The parameters of a group with their names, or "group.index" where it has none."""
    names = group.get("param_names") or [f"{index}.{i}" for i in range(len(group["params"]))]
    return list(zip(names, group["params"], strict=True))


def part_of_group(group: Mapping[str, Any], kept: Iterable[bool]) -> dict[str, Any]:
    """A group with some of its parameters, and all of its options."""
    kept = list(kept)
    lists = {name: group[name] for name in ("params", "param_names") if name in group}
    return {**group, **{name: list(compress(value, kept)) for name, value in lists.items()}}


def _matches(argument: str, patterns: Iterable[str], names: Mapping[str, str]) -> set[str]:
    """The parameters that some pattern matches.

    Args:
        argument: whose patterns they are.
        patterns: as in a shell.
        names: which parameter is called so.
    """
    if isinstance(patterns, str):
        raise TypeError(f"{argument} is the string {patterns!r}; accepted are several patterns, such as [{patterns!r}]")
    found: set[str] = set()
    for pattern in patterns:
        matching = {parameter for name, parameter in names.items() if fnmatchcase(name, pattern)}
        if not matching:
            raise ValueError(f"{argument} has {pattern!r}, which matches none of {', '.join(map(visible, names))}")
        found |= matching
    return found
