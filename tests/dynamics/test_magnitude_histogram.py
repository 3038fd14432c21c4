import torch
from torch.profiler import ProfilerActivity, profile

from nonsmooth.dynamics.kink_ensemble import KinkEnsemble, KinkProblem
from nonsmooth.dynamics.magnitude_histogram import BINS, MagnitudeHistogram


def ensemble(coordinates):
    problem = KinkProblem(lambda parameters: torch.optim.SGD(parameters, lr=0.01), 0.1, 0.0, torch.float32)
    return KinkEnsemble(problem, torch.linspace(0.01, 0.02, coordinates), torch.Generator())


def test_the_histogram_holds_all_that_was_visited():
    histogram, moved, visited = MagnitudeHistogram(), ensemble(300), []
    histogram.record(ensemble(300), 40)
    for _ in range(40):
        moved.step()
        visited.append(moved.weight.abs())
    magnitudes, cumulative = histogram.distribution()
    for magnitude, share in zip(magnitudes, cumulative, strict=True):
        assert abs(float((torch.cat(visited) < magnitude).double().mean()) - share) < 1e-12


def test_a_step_of_few_coordinates_costs_no_memory_for_all_bins():
    histogram, moved = MagnitudeHistogram(), ensemble(512)
    moved.step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        histogram.record(moved, 1)
    assert max(event.self_cpu_memory_usage for event in profiled.events()) < BINS
