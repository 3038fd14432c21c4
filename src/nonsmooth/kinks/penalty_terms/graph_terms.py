"""The penalties that the graph of a loss holds, with λ for each entry or group of the parameters."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nonsmooth.kinks.findings import PenaltyTerm
from nonsmooth.kinks.penalty_terms.linear_paths import in_order, linear_slopes, sources_of, walk_back
from nonsmooth.kinks.penalty_terms.norm_nodes import Norm, freed_said, norms_in
from nonsmooth.kinks.recording.graph import line_of
from nonsmooth.kinks.recording.leaves import Leaves
from nonsmooth.kinks.recording.sets import LeafSet


def graph_terms(loss: Tensor, leaves: Leaves, lines: Mapping[int, str] | None = None) -> tuple[PenaltyTerm, ...]:
    """The terms in the graph of a loss; norms of the same kind and parameters are one term, and their λ add up.

    Args:
        loss: one number with its graph.
        leaves: the parameters.
        lines: source lines, by the sequence number of a node.
    """
    nodes = in_order(loss.grad_fn)
    norms = sorted(norms_in(nodes, leaves), key=lambda norm: norm.node._sequence_nr())
    if not norms:
        return ()
    with freed_said():
        slopes = linear_slopes(nodes, loss, leaves, {norm.node for norm in norms})
    alike: dict[Any, list[tuple[Norm, Tensor]]] = {}
    for norm in norms:
        slope = slopes.get(norm.node)
        if slope is not None and norm.inner().numel():
            alike.setdefault((norm.kind, leaves.of_node(norm.node)), []).append((norm, slope))
    return tuple(term for (_, bits), group in alike.items() for term in _terms(group, bits, leaves, lines or {}))


@dataclass
class _Measured:
    """Norms over the same groups.

    Attributes:
        groups: for each entry of the parameters its group; -1 where the norms do not reach.
        strengths: λ of each group.
        total: what the norms add to the loss.
        inner: what the norm is taken of, unless that is the parameters.
        source: the line of the first of them.
    """

    groups: Tensor
    strengths: Tensor
    total: float
    inner: Tensor | None
    source: str | None


def _terms(
    group: list[tuple[Norm, Tensor]], bits: LeafSet, leaves: Leaves, lines: Mapping[int, str]
) -> list[PenaltyTerm]:
    """The terms of norms of one kind and of the same parameters: one for each way to group them and each centre."""
    names = leaves.names_of(bits)
    parameters = leaves.tensors_of(bits)
    kind = group[0][0].kind
    found: dict[tuple[bytes, bytes], _Measured] = {}
    for norm, slope in group:
        new = _measure(norm, slope, parameters)
        if not bool((new.groups >= 0).any()):
            continue
        new.source = line_of(norm.node) or lines.get(norm.node._sequence_nr())
        key = _key(kind, new)
        same = found.get(key)
        if same is None:
            found[key] = new
            continue
        same.strengths = same.strengths + new.strengths
        same.groups = torch.maximum(same.groups, new.groups)
        same.total += new.total
    return [_term(kind, names, parameters, measured) for measured in found.values()]


def _key(kind: str, measured: _Measured) -> tuple[bytes, bytes]:
    """What is the same for multiples of the same R(w): the groups, and what a constant was subtracted from."""
    inner, groups = measured.inner, measured.groups
    return _bytes(inner) if inner is not None else b"", b"" if kind == "l1" else _bytes(groups)


def _bytes(tensor: Tensor) -> bytes:
    """A digest of a tensor's numbers, with one kind of zero, and of its shape."""
    numbers = (tensor.detach() + 0).resolve_conj().contiguous().flatten()
    digest = hashlib.blake2b(repr((tensor.shape, tensor.dtype)).encode())
    digest.update(numbers.view(torch.uint8).cpu().numpy().tobytes())
    return digest.digest()


def _measure(norm: Norm, slope: Tensor, parameters: list[Tensor]) -> _Measured:
    """λ of each group: the size, in the dual norm, of what the loss's slope becomes on the way to the parameters."""
    below, output = norm.below
    ordered = in_order(below)
    ends = [_end_of(parameter, ordered) for parameter in parameters]
    nodes = {node for node, _ in ends}

    def pull(direction: Tensor) -> Tensor:
        start = {below: [None] * output + [direction.to(inner.dtype)]}
        found = walk_back(ordered, start, lambda node: () if node in nodes else sources_of(node), nodes)
        arrived = [(found.get(node, []) + [None] * (number + 1))[number] for node, number in ends]
        return entries(torch.zeros_like(p) if a is None else a for a, p in zip(arrived, parameters, strict=True))

    inner = norm.inner()
    present = pull(_nonzero(inner))
    pulled = pull(norm.spread(slope, inner) * _steepest(norm, inner))
    sign = (pulled * present.conj()).real.sign()
    if norm.kind == "l1":
        groups = torch.arange(len(present), device=present.device)
        strengths = pulled.abs() * sign
    else:
        groups = _groups(norm, inner, present, pull)
        order = 2 if norm.kind == "group" else 1
        sizes = _sums(pulled.abs() ** order, groups) ** (1 / order)
        strengths = sizes * _sums(sign * pulled.abs(), groups).sign()
    return _Measured(
        groups=groups.masked_fill(present == 0, -1),
        strengths=strengths,
        total=float((slope.detach().double().flatten() * _sizes(norm, inner).double().flatten()).sum()),
        inner=None if not norm.shifted or _are_the_numbers(inner, parameters) else inner,
        source=None,
    )


def _end_of(parameter: Tensor, ordered: Sequence[Any]) -> tuple[Any, int]:
    """The node that a parameter's gradient arrives at, and the number of its output."""
    if parameter.grad_fn is not None:
        return parameter.grad_fn, parameter.output_nr
    return next((node for node in ordered if getattr(node, "variable", None) is parameter), None), 0


def _nonzero(inner: Tensor) -> Tensor:
    """The same numbers with 1 for 0, since a λ is also that of an entry which is 0 by now."""
    return torch.where(inner == 0, torch.ones_like(inner), inner)


def _sizes(norm: Norm, inner: Tensor) -> Tensor:
    """The norms themselves."""
    over = norm.over(inner)
    if norm.kind == "l1" or not over:
        return inner.abs()
    sizes: Tensor = torch.linalg.vector_norm(inner, 2 if norm.kind == "group" else float("inf"), over)
    return sizes


def _steepest(norm: Norm, inner: Tensor) -> Tensor:
    """The derivative of the norms; where a norm is 0, an element of its subdifferential on the unit sphere."""
    if norm.kind == "l1":
        return _nonzero(inner).sgn()
    inner = torch.where(norm.spread(_sizes(norm, inner), inner) == 0, torch.ones_like(inner), inner)
    sizes = norm.spread(_sizes(norm, inner), inner)
    if norm.kind == "group":
        return inner / sizes
    largest = inner.abs() == sizes
    over = norm.over(inner)
    return inner.sgn() * largest / (largest.sum(over, keepdim=True) if over else 1)


def _groups(norm: Norm, inner: Tensor, present: Tensor, pull: Callable[[Tensor], Tensor]) -> Tensor:
    """The group of each entry of the parameters: the binary digits of its number go the way that slopes go.

    An entry that several groups use gets the mean of their digits, and so does the rest of its group.
    """
    count = _sizes(norm, inner).numel()
    numbers = norm.spread(torch.arange(count, device=inner.device), inner)
    keys = torch.zeros(len(present), dtype=torch.int64, device=present.device)
    for digit in range((count - 1).bit_length()):
        mean = (pull(_nonzero(inner) * (numbers >> digit & 1)) / present).real.nan_to_num()
        keys = keys * 9 + (8 * mean).round().long()
    used = present != 0
    _, which = torch.unique(keys[used], return_inverse=True)
    groups = torch.zeros_like(keys)
    groups[used] = which
    return groups


def _sums(values: Tensor, groups: Tensor) -> Tensor:
    count = int(groups.max()) + 1
    return torch.zeros(count, dtype=torch.float64, device=values.device).index_add(0, groups, values.double())


def _are_the_numbers(inner: Tensor, parameters: list[Tensor]) -> bool:
    """Whether subtracting a constant changed nothing, as in l1_loss(w, 0)."""
    if inner.numel() != sum(parameter.numel() for parameter in parameters):
        return False
    return torch.equal(entries([inner]).abs(), entries(parameters).abs())


def _term(kind: str, names: tuple[str, ...], parameters: list[Tensor], measured: _Measured) -> PenaltyTerm:
    used = measured.groups >= 0
    strengths = measured.strengths[used] if kind == "l1" else measured.strengths
    smallest, largest = float(strengths.min()), float(strengths.max())
    strength = largest if abs(largest) >= abs(smallest) else smallest
    tolerance = max(1e-5, *(4 * torch.finfo(parameter.dtype).eps for parameter in parameters))
    if measured.inner is None:
        value = _value(kind, entries(parameters).abs()[used], measured.groups[used])
    else:
        value = measured.total / strength if strength else 0.0
    return PenaltyTerm(
        kind=kind,
        parameters=names,
        strength=strength,
        uniform=largest - smallest <= tolerance * abs(strength),
        value=value,
        centered=measured.inner is None,
        has_gradient=True,
        source=measured.source,
    )


def _value(kind: str, sizes: Tensor, groups: Tensor) -> float:
    """R(w) of the absolute values of w."""
    if kind == "l1":
        return float(sizes.sum(dtype=torch.float64))
    if kind == "group":
        return float(_sums(sizes.double() ** 2, groups).sqrt().sum())
    largest = torch.zeros(int(groups.max()) + 1, dtype=sizes.dtype, device=sizes.device)
    return float(largest.scatter_reduce(0, groups, sizes, "amax").sum())


def entries(tensors: Iterable[Tensor]) -> Tensor:
    """All numbers of several tensors in a row, in single precision at least."""
    flat = [tensor.detach().flatten() for tensor in tensors]
    precise = torch.float32
    for part in flat:
        precise = torch.promote_types(precise, part.dtype)
    return torch.cat([part.to(flat[0].device, precise) for part in flat])
