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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import edge_figure
import edge_seeds
from edge_run import (
    BAND,
    IMAGES,
    LINEAR,
    OPTIMISERS,
    READINGS,
    WIDTH,
    after,
    linear,
    network,
    onset,
    readings,
    walk,
)

from nonsmooth import extremes
from nonsmooth.lab import Cell, Context, Record, SilentWatcher, Store, run

EXPERIMENT, VERSION = "edge-of-stability", 2
STEPS, EVERY = 1000, 25
RATES: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "tanh": {"GD": (0.05, 0.03), "Nesterov": (0.03, 0.015), "RMSprop": (2e-5, 1e-5), "Adam": (3e-4, 2e-4)},
    "relu": {"GD": (0.06, 0.05), "Nesterov": (0.03, 0.02), "RMSprop": (4e-5, 2e-5, 1e-5), "Adam": (3e-4, 2e-4)},
}
"""Step sizes α for each network and optimiser, the smallest last."""
CONTROL_RATE = 0.01
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


def measure(cell: Cell, context: Context) -> Mapping[str, Any]:
    """The loss at every step, and every reading at every few."""
    parameters: Mapping[str, Any] = cell.parameters
    if parameters["kind"] == "network":
        closure, model = network(parameters, context.data)
        weights = list(model.parameters())
    else:
        closure, weights = linear(parameters["model"])
    optimizer = OPTIMISERS[parameters["optimiser"]](weights, parameters["lr"])
    record: dict[str, list[Any]] = {name: [] for name in ("step", *READINGS, "products", "converged")}
    losses, last = [], None
    for step, points in walk(closure, weights, optimizer, parameters["steps"]):
        losses.append(points[-1].loss)
        if step == 0 or step % parameters["every"]:
            continue
        values, read, _ = readings(optimizer, closure, weights, points, last)
        last = read.sharpness
        for name, value in {"step": step, **values}.items():
            record[name].append(value)
        context.progress(step / parameters["steps"])
    return {**record, "loss": losses}


def row(record: Record) -> str:
    """A run's line of the table."""
    parameters, first = record.parameters, onset(record)
    started = "-" if first is None else record["step"][first]
    ratios = after(record, "sharpness")
    inside = sum(BAND[0] <= ratio <= BAND[1] for ratio in ratios)
    cells = [f"{parameters['model']}, {parameters['optimiser']}, {parameters['lr']:g}", str(started)]
    cells += [
        f"{statistics.median(ratios):.3f} ({extremes.smallest(ratios):.2f} to {extremes.largest(ratios):.2f})",
        f"{inside} of {len(ratios)}",
    ]
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


def count(records: Sequence[Record], name: str) -> str:
    """In how many of the runs at the edge the median lies in the band."""
    return outside(records, name).partition(";")[0]


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


READING = """\
How to read it. Of the four readings that of the oscillation keeps closest to the threshold, under Adam excepted, as an
identity does where runs are nearly two-cycles:

- Momentum carries a drift that alternating gradients do not see. Along the *step* of Nesterov's method or Adam the
  directional smoothness is therefore below the threshold; second differences take most of the drift away, and under
  Adam leave some of it.
- At larger step sizes the sharpness hovers farther above the threshold, on tanh at the midpoint as much as at the
  iterates, so that the ends of the swing are not what lifts it; what does is measured below.
- On ReLU the Hessian does not see the kinks that a swing crosses ([kink gap](kink-gap.md)), while differences do. Under
  RMSprop at small step sizes, and early under gradient descent, the sharpness is well below the threshold and the
  oscillation at it.

These runs were measured with at least four products from the last eigenvector, those of the other seed with at least
six from two Ritz vectors; the package takes ten by now. Against searches to 0.001 % on a smaller network, single
measurements were up to 4.4 % too low with four, up to 1.7 % with six, and medians less than 0.1 % with either.
"""


def page(records: Sequence[Record], seeds: str) -> str:
    """The page, from the records, with the part about further seeds."""
    networks = [record for record in records if record.parameters["kind"] == "network"]
    edge = [record for record in networks if record.parameters["model"] in RATES]
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

The median sharpness lies between {BAND[0]} and {BAND[1]} {count(edge, "sharpness")}, of one seed. That is no
test of the edge of stability: the step sizes were chosen after shorter trials with the readings in view, so that runs
get to their edge in the steps that there are, and the largest of RMSprop on ReLU was added when the two others had
stayed below. The best step size of each pair lies in the band by that choice. The claim
[`edge-of-stability`](../claims/edge-of-stability.md) is the test: step sizes set beforehand, several seeds, two widths.

Two readings are no evidence. On an exact two-cycle ⟨Δg, Δw⟩/‖Δw‖² is 2/α and the reading 1 identically, whatever the
function: so *directional* and *of the oscillation* say that a run swings with period two, not where its sharpness is.

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

GELU at α = {CONTROL_RATE:g} is the control that stays below.

{READING}
{seeds}
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
    planned = ((plan(), measure), (edge_seeds.plan(), edge_seeds.measure))
    if not arguments.report:
        for cells, measurement in planned:
            context = Context("cpu", arguments.data)
            run(cells, measurement, store, context=context, workers=arguments.workers, watcher=Lines())
    records, repeated = (
        [record for record in (store.load(cell) for cell in cells) if record is not None] for cells, _ in planned
    )
    stored, total = len(records) + len(repeated), sum(len(cells) for cells, _ in planned)
    if stored < total:
        raise SystemExit(f"{stored} of {total} runs are stored in {arguments.store}")
    text = page(records, edge_seeds.section(repeated))
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")
        edge = [record for record in records if record.parameters["model"] in RATES]
        smallest = {(r.parameters["model"], r.parameters["optimiser"]): r for r in edge}
        pictures = {
            edge_figure.CASES_NAME: edge_figure.cases(list(four(records).values())),
            edge_figure.RUNS_NAME: edge_figure.runs(smallest.values(), BAND),
        }
        for name, drawn in pictures.items():
            (arguments.output.parent / name).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
