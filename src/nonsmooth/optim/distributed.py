"""The prox of a parameter that is spread over processes as a DTensor, by FSDP2 or tensor parallelism.

Each process thresholds its own shard. A penalty that is a sum over coordinates needs nothing else. Where a group lies
on several processes they add up its sums; groups that lie whole on one process need no communication either. Any other
penalty, the nuclear norm for one, gets the whole parameter on every process, each of which keeps its shard of the
result.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributed import ProcessGroup, all_reduce
from torch.distributed.tensor import DTensor

from nonsmooth.optim.local_prox import Held, limit_of, local_prox_, within_limit
from nonsmooth.penalties import GroupL1, Penalty, SparseGroupL1
from nonsmooth.penalties.groups import Groups, along, indexed
from nonsmooth.torch_optimizers import AdaptiveStep, UnitStep


@torch.no_grad()
def prox_shard(penalty: Penalty, parameter: DTensor, step: UnitStep, held: Held | None = None) -> None:
    """Overwrite this process's shard of a parameter by its part of the prox; every process has to call it.

    Args:
        penalty: λR, of the whole parameter.
        parameter: w.
        step: D, its tensors sharded like the parameter.
        held: which weights of the shard were 0 before the step; None for none.

    Raises:
        ValueError: the parameter is laid out in a way that is not known.
    """
    if parameter.device_mesh.get_coordinate() is None:  # a process that takes no part
        return
    if penalty.separable:
        local_prox_(*on_this_process(penalty, parameter, step), held)
        return
    shard, step = parameter.to_local(), _local_step(step)
    whole = step() if isinstance(step, AdaptiveStep) else step
    limit = limit_of(step, whole, held)
    precise = shard.float() if shard.dtype in (torch.float16, torch.bfloat16) else shard
    if isinstance(penalty, GroupL1 | SparseGroupL1):
        part, groups = _grouped_part_of(penalty, parameter)
        shard.copy_(within_limit(part.prox_in(groups, precise, whole), precise, limit))
        return
    if isinstance(whole, Tensor) and whole.ndim:
        whole = _gathered(whole.expand_as(shard), parameter)
    found = local_part(penalty.proximal_map(_gathered(precise, parameter), whole), parameter)
    shard.copy_(within_limit(found, precise, limit))


def on_this_process(penalty: Penalty, parameter: DTensor, step: UnitStep) -> tuple[Penalty, Tensor, UnitStep]:
    """What a sum over coordinates, a parameter and a step are on this process's shard, which shares the memory.

    Args:
        penalty: λR, separable, of the whole parameter.
        parameter: w.
        step: D, its tensors sharded like the parameter.

    Raises:
        ValueError: the parameter is laid out in a way that is not known.
    """
    return _part_of(penalty, parameter), parameter.to_local(), _local_step(step)


def _local_step(step: UnitStep) -> UnitStep:
    """The part of a step that belongs to this process's shard."""
    if not isinstance(step, AdaptiveStep):
        number: float | Tensor = _local(step)
        return number
    return step.of_parts(_local)


def _local(value: Any) -> Any:
    return value.to_local() if isinstance(value, DTensor) else value


def _gathered(shard: Tensor, parameter: DTensor) -> Tensor:
    """The whole of a tensor of which each process has the part that it has of a parameter."""
    return DTensor.from_local(
        shard.contiguous(),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    ).full_tensor()


def local_part(tensor: Tensor, parameter: DTensor, dims: Container[int] | None = None) -> Tensor:
    """The part of a tensor that belongs to this process's shard of a parameter.

    Args:
        tensor: whole on every process, of a shape that broadcasts to the parameter's; or a DTensor.
        parameter: a DTensor.
        dims: the dimensions along which it is divided like the parameter; None for those in which it is as long.

    Returns:
        A tensor that broadcasts against the shard.

    Raises:
        ValueError: the parameter is laid out in a way that is not known.
    """
    if isinstance(tensor, DTensor):
        if tensor.shape == parameter.shape and tensor.placements == parameter.placements:
            return tensor.to_local()
        tensor = tensor.full_tensor()
    if tensor.ndim == 0:
        return tensor
    part = tensor.reshape((1,) * (parameter.ndim - tensor.ndim) + tuple(tensor.shape))
    mesh = parameter.device_mesh
    if dims is None:
        dims = [dim for dim, (own, theirs) in enumerate(zip(part.shape, parameter.shape, strict=True)) if own == theirs]
    for axis, (placement, dim) in enumerate(_sharded_dimensions(parameter)):
        if dim is None or dim not in dims:
            continue
        # Under tensor parallelism along the same dimension FSDP divides what that has given to each process.
        pieces = part.chunk(int(getattr(placement, "split_factor", 1)), dim)
        mine = [_chunk(piece, dim, mesh.size(axis), mesh.get_local_rank(axis)) for piece in pieces]
        part = mine[0] if len(mine) == 1 else torch.cat(mine, dim)
    shard = parameter.to_local()
    if any(own not in (1, theirs) for own, theirs in zip(part.shape, shard.shape, strict=True)):
        raise ValueError(
            f"parameter of shape {tuple(parameter.shape)} has placements {parameter.placements} and here a shard of "
            f"shape {tuple(shard.shape)}; accepted are placements that divide it as torch.chunk does"
        )
    return part


def _chunk(tensor: Tensor, dim: int, count: int, number: int) -> Tensor:
    """One of torch's chunks; the last ones are empty where there are fewer rows than processes."""
    chunks = tensor.chunk(count, dim)
    return chunks[number] if number < len(chunks) else tensor.narrow(dim, 0, 0)


def _sharded_dimensions(parameter: DTensor) -> list[tuple[Any, int | None]]:
    """Each axis of the mesh: its placement, and which dimension of the parameter it divides, None for none.

    Raises:
        ValueError: a process has a summand of the parameter, not a part of it.
    """
    if any(placement.is_partial() for placement in parameter.placements):
        raise ValueError(
            f"parameter has placements {parameter.placements}; a penalty accepts shards and replicas, of which each "
            "process knows the values"
        )
    return [(placement, getattr(placement, "dim", None)) for placement in parameter.placements]


_PARTS: weakref.WeakKeyDictionary[Penalty, dict[Any, tuple[Any, Any]]] = weakref.WeakKeyDictionary()
"""What was worked out for a penalty and a layout, so that it is not at every step."""


def _kept(penalty: Penalty, parameter: DTensor, build: Callable[[], Any]) -> Any:
    """What `build` returns, once for each layout of parameters, and again when a tensor of the penalty changes."""
    tensors = [value for value in vars(penalty).values() if isinstance(value, Tensor)]
    versions = [tensor._version for tensor in tensors]
    known = _PARTS.setdefault(penalty, {})
    layout = (parameter.shape, parameter.device_mesh, parameter.placements)
    if layout not in known or known[layout][0] != versions:
        known[layout] = (versions, build())
    return known[layout][1]


def _with(penalty: Penalty, **fields: Any) -> Any:
    """A copy with other tensors, which need no check again."""
    part = copy.copy(penalty)
    for name, value in fields.items():
        object.__setattr__(part, name, value)
    return part


def _part_of(penalty: Penalty, parameter: DTensor) -> Penalty:
    """A sum over coordinates as it is on this process's shard."""
    fields = [name for name in ("strength", "weights") if isinstance(getattr(penalty, name, None), Tensor)]
    if not fields:
        return penalty
    part: Penalty = _kept(
        penalty,
        parameter,
        lambda: _with(penalty, **{name: local_part(getattr(penalty, name), parameter) for name in fields}),
    )
    return part


Grouped = GroupL1 | SparseGroupL1


def _grouped_part_of(penalty: Grouped, parameter: DTensor) -> tuple[Grouped, Groups]:
    """A penalty on groups with the weights of those that this process has a part of, and how to add up over these."""

    def build() -> tuple[Grouped, Groups]:
        weights, groups = _local_groups(penalty, parameter)
        return _with(penalty, weights=weights), groups

    found: tuple[Grouped, Groups] = _kept(penalty, parameter, build)
    return found


def _local_groups(penalty: Grouped, parameter: DTensor) -> tuple[Tensor, Groups]:
    """c_g of the groups that this process has a part of, and the partition of its shard."""
    shape, shard = parameter.shape, parameter.to_local()
    whole = penalty.groups(shape)
    precise = torch.promote_types(shard.real.dtype if shard.is_complex() else shard.dtype, torch.float32)
    unit = torch.ones((), dtype=precise, device=shard.device)
    if penalty.weights is None:
        weights = whole.total(unit.expand(shape)).sqrt()
    else:
        weights = penalty.weights.to(unit).reshape(-1).expand(whole.count)
    divided = [dim for _, dim in _sharded_dimensions(parameter)]
    if penalty.index is None:
        numbering = {d % len(shape) for d in ([penalty.dim] if isinstance(penalty.dim, int) else penalty.dim)}
        groups = along(shard.shape, penalty.dim)
        weights = local_part(whole.spread(weights), parameter, numbering).reshape(-1)
        split = [axis for axis, dim in enumerate(divided) if dim is not None and dim not in numbering]
    else:
        index = local_part(penalty.numbers(shape).reshape(shape), parameter).to(shard.device)
        groups = indexed(shard.shape, index, whole.count)
        split = [axis for axis, dim in enumerate(divided) if dim is not None]
    processes = [parameter.device_mesh.get_group(axis) for axis in split if parameter.device_mesh.size(axis) > 1]
    return weights, _summed_over(processes, groups) if processes else groups


@dataclass(frozen=True)
class _SharedGroups(Groups):
    """Groups of which other processes hold parts as well.

    They have no `largest`: norms whose squares leave the range of the type, below 1e-19 or above 1e19 in float32, would
    need more rounds of communication at every step.
    """

    shared: ClassVar[bool] = True

    together: Callable[..., tuple[Tensor, ...]]

    def totals(self, *values: Tensor) -> tuple[Tensor, ...]:
        """`total` of several tensors, added up over the processes in one go."""
        return self.together(*values)


def _summed_over(processes: list[ProcessGroup], groups: Groups) -> Groups:
    """The same groups with sums over several processes."""

    def together(*values: Tensor) -> tuple[Tensor, ...]:
        sums = torch.stack([groups.total(each) for each in values])
        if sums.numel():
            for process_group in processes:
                all_reduce(sums, group=process_group)
        return sums.unbind()

    return _SharedGroups(groups.count, lambda values: together(values)[0], groups.spread, together)
