"""Penalties that a loss contains and its gradient does not: on `.data`, on `.detach()`, under `no_grad`, by `.item()`.

Candidates are the absolute values and norms of parameters' memory that record no gradient. Whether the loss contains
one, and with which λ, is measured: the closure runs again with the term made larger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.kinks.findings import PenaltyTerm
from nonsmooth.kinks.leaves import Leaves, storage_of
from nonsmooth.kinks.place import Modules, here
from nonsmooth.kinks.recording import Recorder
from nonsmooth.kinks.undisturbed import undisturbed

FACTOR = 1e4
"""How many times larger a term is made: far above the rounding errors of a loss in single precision."""

COPIES = {"cat", "stack", "clone", "_to_copy"}
KINDS = {1.0: "l1", 2.0: "group", float("inf"): "max"}


@dataclass(frozen=True)
class _Candidate:
    kind: str
    names: tuple[str, ...]
    value: float
    source: str | None


class _Listener(Recorder):  # type: ignore[no-untyped-call]
    """Notes the candidates, and multiplies the results of some by a factor.

    Args:
        leaves: the parameters.
        factors: by the position of a candidate in the run.
    """

    def __init__(self, leaves: Leaves, factors: Mapping[int, float]) -> None:
        super().__init__(leaves, Modules(None))
        self.candidates: list[_Candidate] = []
        self._factors = factors
        self._copies: dict[int, tuple[Tensor, int]] = {}

    def run(self, func: Any, name: str, args: Any, kwargs: Any, reach: int) -> Any:
        result = func(*args, **kwargs)
        if not reach or func._schema.is_mutable or not isinstance(result, Tensor):
            return result
        if name in COPIES:
            parts = args[0] if isinstance(args[0], (list, tuple)) else [args[0]]
            bits = [self._weights(part) for part in parts]
            storage = storage_of(result)
            if all(bits) and storage is not None:
                self._copies[storage] = (result, sum({*bits}))
            return result
        kind = _kind(name, args, kwargs)
        bits_of_term = self._weights(args[0]) if kind is not None and isinstance(args[0], Tensor) else 0
        bits_of_term &= self.leaves.mask_of(trainable=True)
        if kind is None or not bits_of_term or (torch.is_grad_enabled() and args[0].requires_grad):
            return result
        place = here(self.modules)
        names = self.leaves.names_of(bits_of_term)
        self.candidates.append(_Candidate(kind, names, float(result.detach().double().sum()), place.source))
        return result * self._factors.get(len(self.candidates) - 1, 1.0)

    def _weights(self, tensor: Tensor) -> int:
        """The bits of the parameters of which a tensor holds the numbers themselves."""
        copy = self._copies.get(storage_of(tensor) or 0)
        return self.leaves.in_memory(tensor) or (copy[1] if copy else 0)


def _kind(name: str, args: Any, kwargs: Mapping[str, Any]) -> str | None:
    if name == "abs":
        return "l1"
    if name in {"linalg_vector_norm", "norm"}:
        order = args[1] if len(args) > 1 else kwargs.get("ord", kwargs.get("p", 2))
        return KINDS.get(2.0 if order is None else float(order))
    return None


def silent_terms(
    closure: Callable[[], Any],
    pairs: list[tuple[str, Tensor]],
    modules: list[nn.Module],
    graph_terms: Callable[[Tensor, Leaves], tuple[PenaltyTerm, ...]],
) -> tuple[PenaltyTerm, ...]:
    """The terms of a closure: those that `graph_terms` finds in its loss, then those without a gradient."""

    def run(factors: Mapping[int, float], *, graph: bool = False) -> tuple[float, tuple[PenaltyTerm, ...], _Listener]:
        leaves = Leaves(pairs, complete=True)
        listener = _Listener(leaves, factors)
        with undisturbed([tensor for _, tensor in pairs], modules):
            try:
                with listener:
                    loss = closure()
                if not isinstance(loss, Tensor) or loss.numel() != 1:
                    raise ValueError(f"loss returned {loss!r}; accepted is a tensor of one element")
                terms = graph_terms(loss, leaves) if graph and loss.grad_fn is not None else ()
                return float(loss.detach()), terms, listener
            finally:
                listener.restore()

    loss, found, listener = run({}, graph=True)
    candidates = listener.candidates
    if not candidates:
        return found
    places: dict[Any, list[int]] = {}
    for position, candidate in enumerate(candidates):
        places.setdefault((candidate.kind, candidate.source), []).append(position)
    deterministic = run({})[0] == loss
    silent: list[PenaltyTerm] = []
    for positions in places.values():
        group = [candidates[position] for position in positions]
        if not deterministic:  # the closure draws new data each time, so nothing can be measured
            silent.append(_silent(group, None))
            continue
        silent += _measured(group, positions, loss, lambda factors: run(factors)[0])
    return (*found, *silent)


def _measured(
    group: list[_Candidate], positions: list[int], loss: float, run: Callable[[Mapping[int, float]], float]
) -> list[PenaltyTerm]:
    """The terms of one source line, together if one λ explains two runs with different factors, else one by one."""
    strengths = [_strength(group, positions, factors, loss, run) for factors in (_even(positions), _uneven(positions))]
    if all(strength == 0 for strength in strengths):  # computed, and not in the loss
        return []
    if _agree(*strengths):
        return [_silent(group, strengths[0])]
    if len(group) == 1:  # the loss is not linear in it
        return [_silent(group, None)]
    return [
        term
        for candidate, position in zip(group, positions, strict=True)
        for term in _measured([candidate], [position], loss, run)
    ]


def _even(positions: list[int]) -> dict[int, float]:
    return dict.fromkeys(positions, 1 + FACTOR)


def _uneven(positions: list[int]) -> dict[int, float]:
    return {position: 1 + FACTOR / (2 + k) for k, position in enumerate(positions)}


def _strength(
    group: list[_Candidate],
    positions: list[int],
    factors: Mapping[int, float],
    loss: float,
    run: Callable[[Mapping[int, float]], float],
) -> float:
    """λ, if it is the same for all: by how much the loss grows, over by how much the terms do; 0 below rounding."""
    growth = run(factors) - loss
    total = sum((factors[p] - 1) * candidate.value for candidate, p in zip(group, positions, strict=True))
    return 0.0 if total == 0 or abs(growth) <= 1e-6 * abs(loss) else growth / total


def _agree(first: float, second: float) -> bool:
    return abs(first - second) <= 1e-3 * max(abs(first), abs(second))


def _silent(group: list[_Candidate], strength: float | None) -> PenaltyTerm:
    names = tuple(dict.fromkeys(name for candidate in group for name in candidate.names))
    return PenaltyTerm(
        kind=group[0].kind,
        parameters=names,
        strength=strength,
        uniform=strength is not None,
        value=sum(candidate.value for candidate in group),
        centred=True,
        has_gradient=False,
        source=group[0].source,
    )
