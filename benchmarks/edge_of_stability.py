"""The edge of stability, measured: sharpness and directional smoothness over an optimiser's own threshold.

    python benchmarks/edge_of_stability.py [--data FOLDER] [--output docs/benchmarks/edge-of-stability.md]

The fully connected network 3072-200-200-10 of Cohen et al. (2021) on 5,000 images of CIFAR-10, full batch, squared
loss, under four optimisers; a control that stays below; and two functions with kinks or bounded slopes, on which the
pair of readings differs. Every run is stored when it is complete, so the same command goes on after an interruption.
With --report nothing is trained: the page and its figure are written from what is stored.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import edge_figure
import torch
from torch import Tensor, nn
from torch.nn import functional

from nonsmooth.claims.huber_data import draw_regression, draw_start
from nonsmooth.claims.lasso_data import draw_lasso
from nonsmooth.curvature import Point, optimizer_sharpness, oscillation_smoothness, step_smoothness
from nonsmooth.data import load_images
from nonsmooth.lab import Cell, Context, Record, SilentWatcher, Store, run

EXPERIMENT, VERSION = "edge-of-stability", 2
IMAGES, WIDTH = 5000, 200
STEPS, EVERY = 1000, 25
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}
OPTIMISERS: Mapping[str, Callable[[list[Tensor], float], torch.optim.Optimizer]] = {
    "GD": lambda w, lr: torch.optim.SGD(w, lr=lr),
    "Nesterov": lambda w, lr: torch.optim.SGD(w, lr=lr, momentum=0.9, nesterov=True),
    "RMSprop": lambda w, lr: torch.optim.RMSprop(w, lr=lr),
    "Adam": lambda w, lr: torch.optim.Adam(w, lr=lr),
}
RATES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "tanh": {"GD": (0.05, 0.03), "Nesterov": (0.03, 0.015), "RMSprop": (2e-5, 1e-5), "Adam": (3e-4, 2e-4)},
    "relu": {"GD": (0.06, 0.05), "Nesterov": (0.03, 0.02), "RMSprop": (4e-5, 2e-5, 1e-5), "Adam": (3e-4, 2e-4)},
}
"""Step sizes α for each network and optimiser, the smallest last."""
CONTROL_RATE = 0.01
BAND = (0.95, 1.1)
"""Where the ratio of the sharpness to its threshold is to lie after onset."""
READINGS = ("sharpness", "midpoint", "directional", "oscillation")
"""What is measured, each over the optimiser's threshold."""
LINEAR = {"huber": (10.0, 0.0), "lasso": (0.01, 10.0)}
"""Step size α and penalty λ of the two linear models, which are those of the paper's Figure 3 and §3."""
LINEAR_STEPS, LINEAR_EVERY = 400, 10
HEAD = (
    "| run, α | onset | sharpness | in the band | at the midpoint | directional | of the oscillation | last loss |\n"
    "|---|---|---|---|---|---|---|---|"
)


def plan() -> list[Cell]:
    """Two activations under four optimisers, the control, and the two linear models."""
    runs = [
        ("network", name, method, rate)
        for name, methods in RATES.items()
        for method, rates in methods.items()
        for rate in rates
    ]
    runs += [("network", "gelu", "GD", CONTROL_RATE), *(("linear", name, "GD", LINEAR[name][0]) for name in LINEAR)]
    cells = []
    for kind, name, method, rate in runs:
        steps, every = (STEPS, EVERY) if kind == "network" else (LINEAR_STEPS, LINEAR_EVERY)
        parameters = {"kind": kind, "model": name, "optimiser": method, "lr": rate, "steps": steps, "every": every}
        parameters |= {"images": IMAGES, "width": WIDTH} if kind == "network" else {}
        cells.append(Cell(EXPERIMENT, parameters, version=VERSION, cost=120.0 if kind == "network" else 2.0))
    return cells


@lru_cache(maxsize=1)
def images(source: str, count: int) -> tuple[Tensor, Tensor]:
    """Standardised pixels, (images, 3072), and labels as rows of an identity matrix."""
    loaded = load_images(source, "train", limit=count)
    pixels = loaded.inputs - loaded.inputs.mean((0, 2, 3), keepdim=True)
    pixels = pixels / pixels.std((0, 2, 3), keepdim=True)
    return pixels.flatten(1), functional.one_hot(loaded.labels, loaded.classes).float()


def network(parameters: Mapping[str, Any], source: str) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """Half the squared error, summed over classes and averaged over images, in float32."""
    inputs, targets = images(source, parameters["images"])
    activation, width = ACTIVATIONS[parameters["model"]], parameters["width"]
    torch.manual_seed(0)
    layers = [nn.Linear(inputs.shape[1], width), activation(), nn.Linear(width, width), activation()]
    model = nn.Sequential(*layers, nn.Linear(width, targets.shape[1]))
    return lambda: (model(inputs) - targets).square().sum(1).mean() / 2, list(model.parameters())


def linear(name: str) -> tuple[Callable[[], Tensor], list[Tensor]]:
    """The paper's Huber regression of eq. (13), or its LASSO of eq. (11)."""
    if name == "huber":
        problem = draw_regression("uniform", 0, 1)
        data, response, start = problem.data[0], problem.response[0], draw_start("uniform", 0, 1)[0, 0]
        weight = start.clone().requires_grad_()
        return lambda: functional.huber_loss(data @ weight, response), [weight]
    drawn, strength = draw_lasso(0, 1), LINEAR["lasso"][1]
    weight = drawn.start[0].clone().requires_grad_()
    return (
        lambda: (drawn.response[0] - drawn.data[0] @ weight).square().mean() + strength * weight.abs().sum(),
        [weight],
    )


def here_at(weights: list[Tensor], loss: float) -> Point:
    """The point at which backward was just called."""
    flat = torch.cat([weight.detach().flatten() for weight in weights])
    slope = torch.cat([weight.grad.flatten() for weight in weights])
    return Point(flat, slope, loss, torch.finfo(flat.dtype).eps)


@contextmanager
def at_midpoint(points: Sequence[Point], weights: list[Tensor]) -> Iterator[None]:
    """Put (w + 2w' + w'')/4 of three points in a row into the weights, and afterwards what was there.

    In it a period of two cancels: it is where the run is on the average (Cohen et al. 2024, central flows).
    """
    first, second, third = (point.weights for point in points)
    _fill(weights, (first + 2 * second + third) / 4)
    try:
        yield
    finally:
        _fill(weights, third)


def _fill(weights: list[Tensor], flat: Tensor) -> None:
    with torch.no_grad():
        for weight, part in zip(weights, flat.split([w.numel() for w in weights]), strict=True):
            weight.copy_(part.view_as(weight))


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """The loss at every step, and both ratios at every few."""
    parameters: Mapping[str, Any] = cell.parameters
    if parameters["kind"] == "network":
        closure, weights = network(parameters, context.data)
    else:
        closure, weights = linear(parameters["model"])
    optimizer = OPTIMISERS[parameters["optimiser"]](weights, parameters["lr"])
    record: dict[str, list[Any]] = {name: [] for name in ("step", *READINGS, "products", "converged")}
    losses, last = [], None
    points: deque[Point] = deque(maxlen=3)
    for step in range(parameters["steps"] + 1):
        optimizer.zero_grad()
        loss = closure()
        loss.backward()
        losses.append(float(loss.detach()))
        points.append(here_at(weights, losses[-1]))
        if step > 0 and step % parameters["every"] == 0:
            read = optimizer_sharpness(optimizer, closure, start=last)
            last = read.sharpness.eigenvector
            limit, metric = read.threshold.value, read.threshold.preconditioner
            record["step"].append(step)
            record["sharpness"].append(read.ratio)
            with at_midpoint(points, weights):
                record["midpoint"].append(optimizer_sharpness(optimizer, closure, start=last).ratio)
            record["directional"].append(step_smoothness(points[-2], points[-1], metric).directional / limit)
            record["oscillation"].append(oscillation_smoothness(*points, metric).value / limit)
            record["products"].append(read.sharpness.products)
            record["converged"].append(read.sharpness.converged)
            context.progress(step / parameters["steps"])
        optimizer.step()
    return {**record, "loss": losses}


def onset(record: Record) -> int | None:
    """The first measurement at which the sharpness is at its threshold or above, None if there is none."""
    return next((i for i, ratio in enumerate(record["sharpness"]) if ratio >= 1), None)


def late(record: Record) -> int:
    """From where on a run is reported: its second half, or its onset where that is later."""
    return max(onset(record) or 0, len(record["step"]) // 2)


def after(record: Record, name: str) -> list[float]:
    """A reading's values in the part of the run that is reported."""
    values: list[float] = record[name][late(record) :]
    return values


def row(record: Record) -> str:
    """A run's line of the table."""
    parameters, first = record.parameters, onset(record)
    started = "-" if first is None else record["step"][first]
    ratios = after(record, "sharpness")
    inside = sum(BAND[0] <= ratio <= BAND[1] for ratio in ratios)
    cells = [f"{parameters['model']}, {parameters['optimiser']}, {parameters['lr']:g}", str(started)]
    cells += [f"{statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})", f"{inside} of {len(ratios)}"]
    cells += [f"{statistics.median(after(record, name)):.3f}" for name in READINGS[1:]]
    return "| " + " | ".join([*cells, f"{record['loss'][-1]:.4f}"]) + " |"


def medians(record: Record) -> str:
    """The pair of readings, in two columns."""
    return " | ".join(f"{statistics.median(after(record, name)):.3f}" for name in ("sharpness", "directional"))


def four(records: Sequence[Record]) -> dict[str, Record]:
    """The run of each of the four cases; of tanh under gradient descent that with the smallest step."""
    plain = [record for record in records if record.parameters["optimiser"] == "GD"]
    order = sorted(plain, key=lambda record: -record.parameters["lr"])
    return {name: [r for r in order if r.parameters["model"] == name][-1] for name in edge_figure.CASES}


def outside(records: Sequence[Record], name: str) -> str:
    """How many medians of the runs at the edge lie in the band, and where the others are."""
    found = {
        f"{r.parameters['model']} {r.parameters['optimiser']} α = {r.parameters['lr']:g}": statistics.median(
            after(r, name)
        )
        for r in records
    }
    away = [f"{run} ({value:.3f})" for run, value in found.items() if not BAND[0] <= value <= BAND[1]]
    count = f"in {len(found) - len(away)} of {len(found)} runs"
    return f"{count}; outside: {', '.join(away)}" if away else count


def pairs(records: Sequence[Record]) -> str:
    """Of how many pairs of a network and an optimiser some step size has its median sharpness in the band."""
    best: dict[tuple[str, str], list[float]] = {}
    for record in records:
        key = record.parameters["model"], record.parameters["optimiser"]
        best.setdefault(key, []).append(statistics.median(after(record, "sharpness")))
    met = sum(any(BAND[0] <= median <= BAND[1] for median in medians) for medians in best.values())
    return (
        f"Of the {len(best)} pairs of network and optimiser, {met} have a step size at which the median sharpness "
        f"lies between {BAND[0]} and {BAND[1]}."
    )


READING = """\
How to read it. Of the four readings that of the oscillation keeps closest to the threshold, over all runs at the edge:

- Momentum carries a drift that alternating gradients do not see. Along the *step* of Nesterov's method or Adam the
  directional smoothness is therefore below the threshold; second differences take most of the drift away.
- At larger step sizes the sharpness hovers farther above the threshold, on tanh at the midpoint as much as at the
  iterates, so that the ends of the swing are not what lifts it.
- On ReLU the Hessian does not see the kinks that a swing crosses ([kink gap](kink-gap.md)), while differences do. Under
  RMSprop at small step sizes, and early under gradient descent, the sharpness is well below the threshold and the
  oscillation at it: what is missing from the Hessian is there between the points.
"""


def page(records: Sequence[Record]) -> str:
    """The page, from the records."""
    networks = [record for record in records if record.parameters["kind"] == "network"]
    edge = [record for record in networks if record.parameters["model"] in RATES]
    products = [count for record in networks for count in record["products"][1:]]
    rows = "\n".join(row(record) for record in networks)
    cases = four(records)
    return f"""# The edge of stability

`make bench-edge` wrote this page.

The fully connected network 3072-{WIDTH}-{WIDTH}-10 of Cohen et al. (2021) on {IMAGES:,} images of CIFAR-10: full batch,
half the squared error, float32, PyTorch's initial weights, one seed, {STEPS:,} steps, measured every {EVERY} steps.
Every reading is over the optimiser's own threshold (`stability_threshold`), so that 1 is the edge for every optimiser:

- *sharpness*, the largest eigenvalue of P^(-1/2) H P^(-1/2); for gradient descent α·λ_max/2;
- the same *at the midpoint* (w + 2w' + w'')/4 of three points in a row, where an oscillation of period two cancels;
- *directional*, ⟨Δg, Δw⟩/⟨Δw, PΔw⟩ along the step; for gradient descent half of α times the directional smoothness;
- *of the oscillation*, ⟨Δ²g, Δ²w⟩/⟨Δ²w, PΔ²w⟩ of the second differences of three points, in which a steady drift
  cancels.

{pairs(edge)} The step sizes were chosen after
shorter trials, so that runs get to their edge in the steps that there are; the largest of RMSprop on ReLU was added
when the two others had stayed below.

![Sharpness over the threshold against the step, for each network and optimiser]({edge_figure.RUNS_NAME})

The figure has the smallest step size of each pair. Below, onset is the first measurement of a sharpness at its
threshold or above. The columns after it are about the second half of the run, from onset on where that is later:
medians, for the sharpness also the smallest and the largest and how many lie between {BAND[0]} and {BAND[1]}.

{HEAD}
{rows}

Medians between {BAND[0]} and {BAND[1]}, the control aside:

- sharpness {outside(edge, "sharpness")};
- sharpness at the midpoint {outside(edge, "midpoint")};
- directional smoothness {outside(edge, "directional")};
- smoothness of the oscillation {outside(edge, "oscillation")}.

GELU at α = {CONTROL_RATE:g} is the control that stays below. After the first measurement of a run, which starts cold, a
measurement took {statistics.mean(products):.1f} Hessian-vector products on average.

{READING}
## Four cases

![Sharpness and directional smoothness over the threshold in four cases]({edge_figure.CASES_NAME})

Both are drawn over the threshold, and what is below 0.01 at 0.01. The pair tells apart what each alone cannot. The
numbers are the medians of the second half of each run under gradient descent:

| case | sharpness | directional | what it is |
|---|---|---|---|
| tanh network, α = {cases["tanh"].parameters["lr"]:g} | {medians(cases["tanh"])} | the smooth edge of stability |
| GELU network, α = {CONTROL_RATE:g} | {medians(cases["gelu"])} | stable |
| Huber regression (eq. 13), α = {LINEAR["huber"][0]:g} | {medians(cases["huber"])} | a two-cycle whose ends have \
every residual in the linear part of the loss, where the Hessian is 0 |
| LASSO (eq. 11), α = {LINEAR["lasso"][0]:g}, λ = {LINEAR["lasso"][1]:g} | {medians(cases["lasso"])} | a two-cycle \
across kinks, which the Hessian does not see |
"""


class Lines(SilentWatcher):
    """One line for each run."""

    def finished(self, cell: Cell, record: Record) -> None:
        """Print what came out."""
        name = f"{cell.parameters['model']} {cell.parameters['optimiser']} {cell.parameters['lr']:g}"
        late = {key: record[key][-1] for key in ("step", "sharpness", "directional")}
        first = onset(record)
        started = record["step"][first] if first is not None else None
        print(f"{name}: onset {started}, last {late}, {record.seconds:.0f} s", flush=True)

    def failed(self, cell: Cell, message: str) -> None:
        """Print why."""
        print(cell.parameters, message, flush=True)


def default_data() -> str:
    """CIFAR-10 in the folder NONSMOOTH_DATA, else in ../shared/data, else from the hub."""
    repository = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("NONSMOOTH_DATA", repository.parent / "shared" / "data")) / "cifar10"
    return str(folder) if folder.is_dir() else "cifar10"


def main() -> None:
    """Train what is missing, print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=default_data(), help="cifar10, or a folder that holds it")
    parser.add_argument("--store", type=Path, default=Path("results/edge-of-stability"))
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--report", action="store_true", help="train nothing, report what is stored")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    store = Store(arguments.store)
    if not arguments.report:
        run(plan(), measure, store, context=Context("cpu", arguments.data), workers=arguments.workers, watcher=Lines())
    records = [record for record in (store.load(cell) for cell in plan()) if record is not None]
    if len(records) < len(plan()):
        raise SystemExit(f"{len(records)} of {len(plan())} runs are stored in {arguments.store}")
    text = page(records)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text)
        edge = [record for record in records if record.parameters["model"] in RATES]
        smallest = {(r.parameters["model"], r.parameters["optimiser"]): r for r in edge}
        pictures = {
            edge_figure.CASES_NAME: edge_figure.cases(list(four(records).values())),
            edge_figure.RUNS_NAME: edge_figure.runs(smallest.values(), BAND),
        }
        for name, drawn in pictures.items():
            (arguments.output.parent / name).write_text(drawn)


if __name__ == "__main__":
    main()
