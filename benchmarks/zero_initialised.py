"""Networks with parts that start at zero: how many weights a penalty wipes out at first, and what they learn after all.

    python benchmarks/zero_initialised.py [--quick] [--output docs/benchmarks/zero-initialised.md]

Every adaptive optimiser trains every network at every λ, beside `ProxSGD` at the same λ and torch's Adam without a
penalty. What was measured is kept under `build/zero-initialised`, and not measured again: delete it to start anew.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from digits_networks import digits
from torch import nn
from zero_initialised_networks import NETWORKS

from nonsmooth import optim
from nonsmooth.extremes import largest, smallest
from nonsmooth.optim import attach, penalize
from nonsmooth.penalties import L1, ElasticNet, GroupL1, Penalty

FIRST, STEPS, BATCH, TRAINED_ON = 20, 400, 64, 1400
PENALTIES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
MORE_ZEROS, LOST = 0.05, 0.02
"""Accepted: so many more zeros than under ProxSGD after the first steps, and so much less accuracy than plain Adam."""
SEED = 1
STORE = Path("build/zero-initialised")

Make = Callable[[nn.Module, Penalty | None], torch.optim.Optimizer]


def _ours(name: str, **options: Any) -> Make:
    return lambda model, penalty: getattr(optim, name)(penalize(model, penalty), **options)


def _attached(model: nn.Module, penalty: Penalty | None) -> torch.optim.Optimizer:
    return attach(torch.optim.Adam(penalize(model, penalty), lr=1e-3), None)


def _plain(model: nn.Module, penalty: Penalty | None) -> torch.optim.Optimizer:
    del penalty
    return torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)


SGD = _ours("ProxSGD", lr=0.05, momentum=0.9)
ADAPTIVE: dict[str, Make] = {
    "ProxAdam": _ours("ProxAdam", lr=1e-3),
    "ProxAdam, AMSGrad": _ours("ProxAdam", lr=1e-3, amsgrad=True),
    "ProxAdam, β₂ = 0.95": _ours("ProxAdam", lr=1e-3, betas=(0.9, 0.95)),
    "ProxAdamW": _ours("ProxAdamW", lr=1e-3),
    "attach(Adam)": _attached,
    "ProxNAdam": _ours("ProxNAdam", lr=1e-3),
    "ProxRMSprop": _ours("ProxRMSprop", lr=1e-3),
    "ProxRMSprop, momentum": _ours("ProxRMSprop", lr=1e-4, momentum=0.9),
    "ProxRMSprop, centred": _ours("ProxRMSprop", lr=1e-3, centered=True),
    "ProxAdagrad": _ours("ProxAdagrad", lr=1e-2),
    "SteadyAdam": _ours("SteadyAdam", lr=1e-3),
    "SteadyAdamW": _ours("SteadyAdamW", lr=1e-3),
    "SteadyNAdam": _ours("SteadyNAdam", lr=1e-3),
    "SteadyRMSprop": _ours("SteadyRMSprop", lr=1e-3),
    "SteadyAdagrad": _ours("SteadyAdagrad", lr=1e-2),
}
OTHER_PENALTIES: dict[str, Callable[[float], Penalty]] = {
    "GroupL1": partial(GroupL1, dim=0),
    "ElasticNet": ElasticNet,
}
"""Beside L1, under ProxAdam and ProxRMSprop; a unit whose weights are all behind a shut gate is a group."""


def ways() -> dict[str, tuple[Make, Callable[[float], Penalty]]]:
    """Optimisers and penalties by what the table calls them."""
    found: dict[str, tuple[Make, Callable[[float], Penalty]]] = {name: (make, L1) for name, make in ADAPTIVE.items()}
    for penalty, build in OTHER_PENALTIES.items():
        for name in ("ProxAdam", "ProxRMSprop"):
            found[f"{name}, {penalty}"] = (ADAPTIVE[name], build)
    return found


def zeros_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Share of the weights under a penalty that are 0, those that started so left out."""
    counted = [
        (parameter.detach() == 0)[~started]
        for group in optimizer.param_groups
        if group.get("penalty") is not None
        for parameter in group["params"]
        for started in [model.started_at_zero[parameter]]
    ]
    return float(torch.cat(counted).float().mean()) if counted else 0.0


def train(name: str, make: Make, penalty: Penalty | None, steps: int = STEPS) -> dict[str, float]:
    """Train one network on the digits.

    Returns:
        `first`: share of zeros after 20 steps; `last`: after all; `accuracy` on the images not trained on.
    """
    torch.manual_seed(SEED)
    model = NETWORKS[name]()
    model.started_at_zero = {parameter: parameter.detach() == 0 for parameter in model.parameters()}
    images, labels = digits()
    images, optimizer = images.float(), make(model, penalty)
    batches, first = torch.Generator().manual_seed(SEED), 0.0
    for step in range(1, steps + 1):
        rows = torch.randint(TRAINED_ON, (BATCH,), generator=batches)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()
        if step == FIRST:
            first = zeros_of(model, optimizer)
    model.eval()
    with torch.no_grad():
        right = model(images[TRAINED_ON:]).argmax(1) == labels[TRAINED_ON:]
    return {"first": first, "last": zeros_of(model, optimizer), "accuracy": float(right.float().mean())}


def measured(network: str, way: str, lam: float, make: Make, penalty: Penalty | None) -> dict[str, float]:
    """`train`, from what is stored where it is."""
    place = STORE / f"{network}--{way}--{lam:g}.json".replace(" ", "_").replace("/", "_")
    if place.exists():
        found: dict[str, float] = json.loads(place.read_text(encoding="utf-8"))
        return found
    found = train(network, make, penalty)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = place.with_suffix(".part")
    temporary.write_text(json.dumps(found), encoding="utf-8")
    temporary.replace(place)
    return found


def report(rows: list[dict[str, Any]]) -> str:
    """The page: what failed, then for each network and λ the worst of the optimisers."""
    kept = [row for row in rows if row["sgd"]["accuracy"] >= row["adam"] - LOST]
    strengths = ", ".join(f"{lam:g}" for lam in sorted({row["lam"] for row in rows}))
    many = [row for row in rows if row["first"] > row["sgd"]["first"] + MORE_ZEROS]
    lost = [row for row in kept if row["accuracy"] < row["adam"] - LOST]
    lines = [
        "# Networks with parts that start at zero",
        "",
        f"{len({row['network'] for row in rows})} networks, each trained for {STEPS} steps of {BATCH} digits under "
        f"{len({row['way'] for row in rows})} adaptive optimisers with a penalty, at "
        f"λ = {strengths}. Zeros are counted among the penalised weights that did not "
        f"start at 0. Accuracy is on {1797 - TRAINED_ON} images that were not trained on.",
        "",
        f"- After {FIRST} steps more zeros than `ProxSGD`'s at the same λ plus {MORE_ZEROS:.0%}: {len(many)} of "
        f"{len(rows)} runs.",
        f"- After training less accuracy than torch's Adam without a penalty minus {LOST:.0%}, where `ProxSGD` has as "
        f"much: {len(lost)} of {len(kept)} runs. So few images have a standard error of about 1.7 points, and Adam "
        "itself has not converged after so few steps, nor is it the other optimisers without a penalty: a loss of some "
        "points is near what this can tell. A network that is dead would be near 10%.",
        "",
        "What the limit of the prox is, and why it changes no fixed point: [One λ under every optimiser]"
        "(../concepts/one-lambda.md#a-limit-to-what-the-penalty-may-do-in-one-step).",
        "",
        "## By network and λ",
        "",
        f"Zeros after {FIRST} steps and accuracy, the worst optimiser of each line.",
        "",
        "| network | λ | most zeros | under | ProxSGD | least accuracy | under | ProxSGD | plain Adam |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for network in NETWORKS:
        for lam in PENALTIES:
            own = [row for row in rows if row["network"] == network and row["lam"] == lam]
            if own:
                most, least = largest(own, key=lambda row: row["first"]), smallest(own, key=lambda row: row["accuracy"])
                lines.append(
                    f"| {network} | {lam:g} | {most['first']:.1%} | {most['way']} | {most['sgd']['first']:.1%} | "
                    f"{least['accuracy']:.1%} | {least['way']} | {least['sgd']['accuracy']:.1%} | {least['adam']:.1%} |"
                )
    lines += ["", "## By optimiser", ""]
    lines += [
        f"| optimiser | most zeros over ProxSGD's after {FIRST} steps | where | most accuracy lost to plain Adam | "
        "where |",
        "|---|---|---|---|---|",
    ]
    for way in dict.fromkeys(row["way"] for row in rows):
        most = largest((row for row in rows if row["way"] == way), key=lambda row: row["first"] - row["sgd"]["first"])
        least = smallest((row for row in kept if row["way"] == way), key=lambda row: row["accuracy"] - row["adam"])
        lines.append(
            f"| {way} | {most['first'] - most['sgd']['first']:+.1%} | {most['network']}, {most['lam']:g} | "
            f"{least['adam'] - least['accuracy']:+.1%} | {least['network']}, {least['lam']:g} |"
        )
    for title, failed in ((f"More zeros after {FIRST} steps", many), ("Less accuracy", lost)):
        if failed:
            lines += [
                "",
                f"## {title}",
                "",
                "| network | optimiser | λ | zeros | ProxSGD | accuracy | ProxSGD | Adam |",
            ]
            lines += ["|---|---|---|---|---|---|---|---|"]
            for row in failed:
                shares = row["first"], row["sgd"]["first"], row["accuracy"], row["sgd"]["accuracy"], row["adam"]
                cells = [row["network"], row["way"], f"{row['lam']:g}", *(f"{share:.1%}" for share in shares)]
                lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Made by `make bench-zero`."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the page and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="two networks, two strengths")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began, rows = time.perf_counter(), []
    networks = list(NETWORKS)[:2] if arguments.quick else list(NETWORKS)
    for lam in sorted(PENALTIES, reverse=True)[: 2 if arguments.quick else None]:
        for network in networks:
            adam = measured(network, "Adam", 0.0, _plain, None)["accuracy"]
            for way, (make, build) in ways().items():
                sgd = measured(network, f"ProxSGD, {build(1.0).specification()['name']}", lam, SGD, build(lam))
                found = measured(network, way, lam, make, build(lam))
                rows.append({"network": network, "way": way, "lam": lam, "adam": adam, "sgd": sgd, **found})
            print(f"{len(rows)} runs, {time.perf_counter() - began:,.0f} s: {network}, λ = {lam:g}", flush=True)
    text = report(rows)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
