"""Another seed at the edge of stability, at step sizes fixed beforehand, and what kinks add to a swing's curvature.

The runs of `edge_of_stability` have one seed, and their step sizes were chosen with readings in view. These repeat one
step size of each pair. On top they split the curvature along the swing: between the two ends of an oscillation of
period two, the change of the gradient is the mean of the Hessian's form over the segment and what happens at the kinks
inside.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edge_run import BAND, IMAGES, OPTIMISERS, READINGS, WIDTH, after, fill, images, network, onset, readings, walk
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn

from nonsmooth import extremes
from nonsmooth.curvature import (
    OptimizerSharpness,
    Point,
    evaluate_point,
    hessian_operator,
    step_smoothness,
)
from nonsmooth.kinks import crossings
from nonsmooth.lab import Cell, Context, Record

EXPERIMENT, VERSION = "edge-of-stability-seeds", 3
SEED = 1
STEPS, EVERY = 1000, 50
RATES: Mapping[str, Mapping[str, float]] = {
    "tanh": {"GD": 0.03, "Nesterov": 0.015, "RMSprop": 2e-5, "Adam": 2e-4},
    "relu": {"GD": 0.05, "Nesterov": 0.02, "RMSprop": 4e-5, "Adam": 3e-4},
}
"""Step size α of each pair: with seed 0 it has the largest share of measurements in the band; of two, the larger."""
BELOW = (2e-5, 1e-5)
"""Step sizes of RMSprop on ReLU at which the sharpness with seed 0 stays below its threshold."""
PROBE, NODES = 500, 5
"""Images on which kinks are counted; points on the segment at which the Hessian is asked."""
SWING = ("segment", "hessian", "aligned", "crossed")


def plan() -> list[Cell]:
    """Each pair, and RMSprop on ReLU at two smaller steps."""
    pairs = [(name, method, rate) for name, methods in RATES.items() for method, rate in methods.items()]
    runs = pairs + [("relu", "RMSprop", rate) for rate in BELOW]
    shape = {"steps": STEPS, "every": EVERY, "images": IMAGES, "width": WIDTH}
    return [
        Cell(
            EXPERIMENT,
            {"model": name, "optimiser": method, "lr": rate, "seed": SEED, **shape},
            version=VERSION,
            cost=120.0,
        )
        for name, method, rate in runs
    ]


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """Every reading at every few steps, and the parts of the curvature along the swing."""
    parameters: Mapping[str, Any] = cell.parameters
    closure, model = network(parameters, context.data)
    weights = list(model.parameters())
    probe = images(context.data, parameters["images"])[0][:PROBE]
    optimizer = OPTIMISERS[parameters["optimiser"]](weights, parameters["lr"])
    record: dict[str, list[Any]] = {name: [] for name in ("step", *READINGS, "products", "converged", *SWING)}
    losses, last = [], None
    for step, points in walk(closure, weights, optimizer, parameters["steps"]):
        losses.append(points[-1].loss)
        if step == 0 or step % parameters["every"]:
            continue
        values, read, middle = readings(optimizer, closure, weights, points, last)
        last = read.sharpness
        for name, value in {"step": step, **values, **swing(closure, model, probe, points, middle)}.items():
            record[name].append(value)
        context.progress(step / parameters["steps"])
    return {**record, "loss": losses}


def swing(
    closure: Callable[[], Tensor], model: nn.Module, probe: Tensor, points: Sequence[Point], read: OptimizerSharpness
) -> dict[str, float]:
    """The curvature between the ends of the swing of three points, over the threshold, and how much of it is smooth.

    With d = w - 2w' + w'' the ends are (w + 2w' + w'')/4 ± d/4; where the period is two they are w' and w.

    Args:
        closure: the loss.
        model: its network.
        probe: images on which the units that change are counted.
        points: the last three.
        read: the sharpness at the midpoint, whose threshold and metric count.

    Returns:
        `segment`, ⟨Δg, Δw⟩/⟨Δw, PΔw⟩ between the ends; `hessian`, the mean of ⟨Δw, HΔw⟩/⟨Δw, PΔw⟩ over the segment, by
        Gauss's rule; `aligned`, the share of ⟨Δw, PΔw⟩ that lies in the eigenvector of the sharpness; `crossed`, the
        fraction of the pattern of hidden units that differs between the ends.
    """
    weights = list(model.parameters())
    first, second, third = (point.weights for point in points)
    middle, half = (first + 2 * second + third) / 4, (first - 2 * second + third) / 4
    limit, metric = read.threshold.value, read.threshold.preconditioner
    nodes, shares = leggauss(NODES)
    forms = []
    with restored(weights, third):
        ends = []
        for sign in (-1, 1):
            fill(weights, middle + sign * half)
            ends.append(evaluate_point(closure, weights))
        for node in nodes:
            fill(weights, middle + float(node) * half)
            with hessian_operator(closure, weights) as operator:
                forms.append(float(half @ operator.product(half)))
                scale = half if metric is None else half * operator.flat(metric)
    along = read.sharpness.eigenvector @ (half if metric is None else (half * scale).sqrt() * half.sign())
    mean = sum(share * form for share, form in zip(shares, forms, strict=True)) / 2
    return {
        "segment": step_smoothness(*ends, metric).directional / limit,
        "hessian": float(mean / (half @ scale)) / limit,
        "aligned": float(along.square() / (half @ scale)),
        "crossed": crossings(model, probe, *(end.weights for end in ends)).fraction,
    }


@contextmanager
def restored(weights: list[Tensor], flat: Tensor) -> Iterator[None]:
    """A block after which the weights are these."""
    try:
        yield
    finally:
        fill(weights, flat)


def section(records: Sequence[Record]) -> str:
    """The part of the page that these runs are."""
    repeated = [record for record in records if not is_below(record)]
    medians = [statistics.median(after(record, "sharpness")) for record in repeated]
    everywhere = sum(BAND[0] <= statistics.median(after(record, "sharpness")) <= BAND[1] for record in records)
    inside = sum(BAND[0] <= median <= BAND[1] for median in medians)
    rows = "\n".join(row(record) for record in records)
    smooth, kinked = (
        [parts(record) for record in records if record.parameters["model"] == name] for name in ("tanh", "relu")
    )
    products = [count for record in records for count in record["products"][1:]]
    converged = [found for record in records for found in record["converged"][1:]]
    aligned = [statistics.median(after(record, "aligned")) for record in records]
    segments = [statistics.median(after(record, "segment")) for record in records]
    return f"""## Another seed

The step sizes above were chosen with the readings in view. So one of each pair, that with the largest share of
measurements in the band, was run again with other initial weights, measured every {EVERY} steps, and RMSprop on ReLU at
the two smaller ones too. In {inside} of these {len(repeated)}, and in {everywhere} of all {len(records)}, the median
sharpness lies between {BAND[0]} and {BAND[1]}. One more seed at the best of the step sizes is a repetition, no test.

The last four columns take the swing apart, between the ends of an oscillation of period two:

- *of the segment*, ⟨Δg, Δw⟩/⟨Δw, PΔw⟩ between the ends, the curvature along the swing with all that happens on the way;
- the *Hessian's mean* of ⟨Δw, HΔw⟩/⟨Δw, PΔw⟩ along it, which sees no kink;
- *aligned*, the share of the swing's squared length, ⟨Δw, PΔw⟩, that lies in the eigenvector of the sharpness;
- *crossed*, the fraction of the hidden units' pattern, over {PROBE} images, that differs between the ends.

| run, α | onset | sharpness | in the band | of the segment | Hessian's mean | aligned | crossed |
|---|---|---|---|---|---|---|---|
{rows}

**Why the sharpness hovers above its threshold.** An oscillation that neither grows nor shrinks has about the threshold
as the curvature along itself: {spread(segments)} over these runs, which is 1 identically on an exact two-cycle. On a
smooth network that is a mean over directions, the largest of which, the sharpness, lies above it unless the whole swing
is in its eigenvector. The share that is, is {spread(aligned)}: the swing is spread over several directions. Whether
those are at the edge too takes their eigenvalues, which these runs did not record; the claim `edge-of-stability`
records the second.

**What ReLU's Hessian does not see.** On tanh, the control, the Hessian's mean is the curvature of the segment, as it
must be: {spread(smooth)} of it. On ReLU it is {spread(kinked)}; the rest is in the kinks that the swing crosses.

After the first measurement of a run, which starts cold, one took {statistics.mean(products):.1f} Hessian-vector
products on average, and {statistics.mean(converged):.0%} converged within the 15 that are the most.
"""


def is_below(record: Record) -> bool:
    """Whether a run is one of those added to see what is missing from the sharpness."""
    parameters = record.parameters
    return (parameters["model"], parameters["optimiser"]) == ("relu", "RMSprop") and parameters["lr"] in BELOW


def parts(record: Record) -> float:
    """The Hessian's share of the curvature along the swing, the median of the reported part of a run."""
    pairs = zip(after(record, "hessian"), after(record, "segment"), strict=True)
    return statistics.median(hessian / segment for hessian, segment in pairs)


def spread(values: Sequence[float]) -> str:
    """The smallest and the largest."""
    return f"{extremes.smallest(values):.3f} to {extremes.largest(values):.3f}"


def row(record: Record) -> str:
    """A run's line of the table."""
    p, first = record.parameters, onset(record)
    ratios = after(record, "sharpness")
    inside = sum(BAND[0] <= ratio <= BAND[1] for ratio in ratios)
    cells = [
        f"{p['model']}, {p['optimiser']}, {p['lr']:g}",
        "-" if first is None else str(record["step"][first]),
    ]
    cells += [
        f"{statistics.median(ratios):.3f} ({extremes.smallest(ratios):.2f} to {extremes.largest(ratios):.2f})",
        f"{inside} of {len(ratios)}",
    ]
    cells += [f"{statistics.median(after(record, name)):.3f}" for name in ("segment", "hessian", "aligned")]
    return "| " + " | ".join([*cells, f"{statistics.median(after(record, 'crossed')):.2%}"]) + " |"
