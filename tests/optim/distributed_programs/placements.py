"""The prox of parameters that lie on several processes in every way there is, against that of the whole parameter."""

from __future__ import annotations

import itertools

import torch
from networks import PENALTIES, ramp
from processes import take_part
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from nonsmooth.optim.proximal_step import prox_parameter
from nonsmooth.penalties import L1, GroupL1, Nuclear
from nonsmooth.torch_optimizers import AdaptiveStep

SHAPES = ((3, 5), (1, 3), (3, 1), (3, 2, 2, 2))
STEP = 0.2


def case(shape, dtype=torch.float64):
    """A parameter and the square from which an adaptive optimiser has its step, the same in each process."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(shape, generator=generator, dtype=dtype), torch.rand(shape, generator=generator, dtype=dtype)


def spread(tensor, mesh, placements):
    return distribute_tensor(tensor.clone(), mesh, placements)


def steps(square, spread_square):
    """A step that is a number and one per coordinate, for the whole parameter and for shards."""
    return {
        "number": (STEP, STEP),
        "metric": (AdaptiveStep(STEP, 0.3, square)(), AdaptiveStep(STEP, 0.3, spread_square)),
    }


def difference(penalty, point, step, parameter, local_step):
    """How far the prox by shards is from the prox of the whole."""
    prox_parameter(penalty, parameter, local_step)
    return float((parameter.full_tensor() - penalty.proximal_map(point, step)).abs().max())


def every_placement(mesh):
    axes = [(Replicate(), Shard(0), Shard(1))] * mesh.ndim
    return list(itertools.product(*axes))


@torch.no_grad()
def shards(meshes):
    """By penalty, placement and kind of step, the largest difference over the shapes."""
    report = {}
    for mesh, (name, build) in itertools.product(meshes, PENALTIES.items()):
        for placements, shape in itertools.product(every_placement(mesh), SHAPES):
            point, square = case(shape)
            penalty = build(point.shape, 0.9)
            for kind, (step, local) in steps(square, spread(square, mesh, placements)).items():
                found = difference(penalty, point, step, spread(point, mesh, placements), local)
                where = ", ".join(str(placement) for placement in placements)
                key = f"{name}; {where} of {tuple(mesh.shape)}; {kind}"
                report[key] = max(report.get(key, 0.0), found)
    return report | special_cases(meshes[0])


def special_cases(mesh):
    """Half precision, complex numbers, a penalty that changes, weights that are spread as well, and a summand."""
    report, placements = {}, [Shard(0)] * mesh.ndim
    point, _ = case((3, 5), torch.complex128)
    for name, penalty in (("l1", L1(0.9)), ("groups", GroupL1(0.9, dim=1))):
        report[f"complex {name}"] = difference(penalty, point, STEP, spread(point, mesh, placements), STEP)
    half, _ = case((3, 5), torch.bfloat16)
    for name, penalty in (("l1", L1(0.9)), ("groups", GroupL1(0.9, dim=1)), ("nuclear", Nuclear(0.9))):
        whole, parameter = half.clone(), spread(half, mesh, placements)
        prox_parameter(penalty, whole, STEP)
        prox_parameter(penalty, parameter, STEP)
        report[f"bfloat16 {name}"] = float((parameter.full_tensor() - whole).abs().max())
    point, _ = case((3, 5))
    for name, changing in (("l1", L1(0.9, weights=ramp(3, 5))), ("groups", GroupL1(0.9, dim=1, weights=ramp(5)))):
        prox_parameter(changing, spread(point, mesh, placements), STEP)
        changing.weights.mul_(2)
        report[f"weights changed in place, {name}"] = difference(
            changing, point, STEP, spread(point, mesh, placements), STEP
        )
    parameter, weights = spread(point, mesh, placements), ramp(3, 5)
    prox_parameter(L1(0.9, weights=spread(weights, mesh, placements)), parameter, STEP)
    expected = L1(0.9, weights=weights).proximal_map(point, STEP)
    report["weights spread as well"] = float((parameter.full_tensor() - expected).abs().max())
    try:
        summand = DTensor.from_local(point.clone(), mesh, [Partial()] * mesh.ndim, run_check=False)
        prox_parameter(GroupL1(0.9), summand, STEP)
        report["summand"] = "accepted"
    except ValueError as error:
        report["summand"] = str(error)
    return report


@torch.no_grad()
def under_tensor_parallelism(mesh):
    """FSDP2 of a parameter that tensor parallelism has divided already, along the same dimension too."""
    report = {}
    for (name, build), dim in itertools.product(PENALTIES.items(), (0, 1)):
        point, square = case((8, 4))
        module = torch.nn.Linear(4, 8, bias=False).double()
        module.weight = torch.nn.Parameter(spread(point, mesh["tp"], [Shard(dim)]))
        fully_shard(module, mesh=mesh["dp"])
        penalty, parameter = build(point.shape, 0.9), module.weight
        mine = torch.zeros_like(parameter)
        mine.to_local().copy_(spread(square, mesh["tp"], [Shard(dim)]).to_local().chunk(2)[mesh["dp"].get_local_rank()])
        step = AdaptiveStep(STEP, 0.3, square)()
        found = difference(penalty, point, step, parameter, AdaptiveStep(STEP, 0.3, mine))
        report[f"{name}; {parameter.placements}"] = found
    return report


def main(rank, folder):
    square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    return {"shards": shards((square,)), "tensor_parallel": under_tensor_parallelism(square)}


if __name__ == "__main__":
    take_part(main)
