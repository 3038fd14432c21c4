"""Test accuracy against sparsity on CIFAR-10: proximal optimisers, other people's ways to an L1 penalty, and controls.

    python benchmarks/cifar_sparsity.py [--scale quick] [--data FOLDER] [--output docs/benchmarks/cifar-sparsity.md]

Every training run is stored as soon as it is complete, so the same command goes on after an interruption. Step sizes
and penalties are chosen on images held out from the training set; the test images choose nothing. With --report,
nothing is trained: the page and its figure are written from what is stored.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cifar_sparsity_page
import torch
from cifar_sparsity_methods import METHODS, Method, penalised
from torch import Tensor, nn
from torch.nn import functional

from nonsmooth.data import load_images
from nonsmooth.lab import Cell, Context, Record, SilentWatcher, Store, run
from nonsmooth.models import vgg
from nonsmooth.models.resnet import resnet

EXPERIMENT, TIMING = "cifar-sparsity", "cifar-sparsity-time"
VERSION = 1
NETWORKS = ("resnet8", "vgg13")
TUNING_SEED = 0
"""The seed of the runs that choose step sizes; those with the step size chosen are part of what is reported."""
DENSE_SHARE = 0.5
"""Of the epochs of pruning, before the pruning; the rest is fine-tuning."""
ROUNDING_COST = 0.01
"""Validation accuracy that rounding may cost."""
SHARES = (*(k / 20 for k in range(1, 20)), 0.96, 0.97, 0.98, 0.99, 0.995)
"""Of the weights rounded to zero, that are tried."""
TINY = 1e-3
TIMED_ROUNDS = 15


@dataclass(frozen=True)
class Scale:
    """How much is trained: numbers of images, epochs, seeds, penalties per method, and at what precision."""

    train: int
    validation: int
    test: int
    epochs: int
    batch: int
    seeds: int
    strengths: int
    stem_stride: int
    precision: str

    def settings(self) -> dict[str, Any]:
        """What a training run depends on."""
        names = ("train", "validation", "test", "epochs", "batch", "stem_stride", "precision")
        return {name: getattr(self, name) for name in names}


SCALES = {
    "quick": Scale(3200, 1000, 2000, 4, 50, 5, 3, 2, "bfloat16"),
    "full": Scale(45000, 5000, 10000, 30, 128, 5, 3, 1, "float32"),
}


def build(network: str, seed: int, stem_stride: int) -> nn.Sequential:
    """A network with its starting weights."""
    generator = torch.Generator().manual_seed(seed)
    if network == "vgg13":
        return vgg(13, initialization="kaiming", generator=generator)
    return resnet(8, stem_stride=stem_stride, generator=generator)


@dataclass(frozen=True)
class Split:
    """Images of one use, in the channels-last format."""

    inputs: Tensor
    labels: Tensor


@lru_cache(maxsize=1)
def splits(data: str, train: int, validation: int, test: int) -> tuple[Split, Split, Split]:
    """Training images, those held out from them, and test images; equally many of each class in each, up to one."""
    fit, judge = load_images(data, "train", limit=train + validation), load_images(data, "test", limit=test)

    def part(images: Any, chosen: slice) -> Split:
        return Split(images.inputs[chosen].contiguous(memory_format=torch.channels_last), images.labels[chosen])

    return part(fit, slice(train)), part(fit, slice(train, None)), part(judge, slice(None))


def logits(model: nn.Module, inputs: Tensor, precision: str) -> Tensor:
    """What the network says, float32; the convolutions in bfloat16 if asked, the weights always float32."""
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        return model(inputs).float()


@torch.no_grad()
def accuracy(model: nn.Module, split: Split, precision: str) -> float:
    """The share of images that the network gets right, in evaluation mode."""
    model.eval()
    right = 0
    for inputs, labels in zip(split.inputs.split(500), split.labels.split(500), strict=True):
        right += int((logits(model, inputs, precision).argmax(1) == labels).sum())
    model.train()
    return right / len(split.labels)


def fit(
    model: nn.Module,
    method: Method,
    split: Split,
    settings: Mapping[str, Any],
    epochs: int,
    generator: torch.Generator,
    masks: Mapping[Tensor, Tensor] | None = None,
) -> float:
    """Train with a step size that falls from lr to 0 as a cosine; returns the mean loss of the last epoch."""
    optimizer, extra = method.make(model, settings["lr"], settings["strength"])
    for weight, mask in (masks or {}).items():
        weight.data.mul_(mask)
    batches = len(split.labels) // settings["batch"]
    losses = []
    for step in range(epochs * batches):
        if step % batches == 0:
            order, losses = torch.randperm(len(split.labels), generator=generator), []
        rows = order[(step % batches) * settings["batch"] :][: settings["batch"]]
        done = step / (epochs * batches)
        for group in optimizer.param_groups:
            group["lr"] = settings["lr"] * (1 + math.cos(math.pi * done)) / 2
            if "averaging" in group:
                group["averaging"] = done
        loss = functional.cross_entropy(logits(model, split.inputs[rows], settings["precision"]), split.labels[rows])
        losses.append(loss.item())
        optimizer.zero_grad()
        (loss if extra is None else loss + extra()).backward()
        optimizer.step()
        for weight, mask in (masks or {}).items():
            weight.data.mul_(mask)
    return statistics.fmean(losses)


def magnitudes(model: nn.Module) -> Tensor:
    """|w| of all penalised weights, in rising order."""
    return torch.cat([weight.detach().abs().flatten() for weight in penalised(model)]).sort().values


def kept(model: nn.Module, share: float) -> dict[Tensor, Tensor]:
    """For each penalised weight, which entries stay when that share of the smallest, over all layers, goes."""
    values = magnitudes(model)
    threshold = values[max(0, round(share * len(values)) - 1)]
    return {weight: weight.detach().abs() > threshold for weight in penalised(model)}


def round_off(model: nn.Module, split: Split, precision: str, reached: float) -> None:
    """Set to zero as many of the smallest weights as the validation accuracy allows; bisection over `SHARES`."""
    before = [weight.detach().clone() for weight in penalised(model)]

    def rounded(share: float) -> None:
        for weight, value in zip(penalised(model), before, strict=True):
            weight.data.copy_(value)
        for weight, mask in kept(model, share).items():
            weight.data.mul_(mask)

    low, high = -1, len(SHARES)
    while high - low > 1:
        middle = (low + high) // 2
        rounded(SHARES[middle])
        low, high = (middle, high) if accuracy(model, split, precision) >= reached - ROUNDING_COST else (low, middle)
    rounded(SHARES[low] if low >= 0 else 0.0)


def zeros(model: nn.Module) -> float:
    """The share of penalised weights that are exactly zero."""
    total = sum(weight.numel() for weight in penalised(model))
    return sum(int((weight == 0).sum()) for weight in penalised(model)) / total


def zero_filters(model: nn.Module) -> float:
    """The share of the convolutions' filters that are zero as a whole."""
    filters = [w.detach().flatten(1).abs().amax(1) for w in penalised(model) if w.ndim == 4]
    return float((torch.cat(filters) == 0).float().mean())


def measure(cell: Cell, context: Context) -> dict[str, Any]:
    """Train one network with one method, and say how good and how sparse it is after the last epoch."""
    settings: Any = cell.parameters
    if cell.claim == TIMING:
        return time_steps(cell, context)
    fitting, validation, test = splits(context.data, settings["train"], settings["validation"], settings["test"])
    method, precision = METHODS[settings["method"]], settings["precision"]
    model = build(settings["network"], cell.seed, settings["stem_stride"])
    generator = torch.Generator().manual_seed(cell.seed)
    epochs, masks = settings["epochs"], None
    if method.prunes:
        dense = math.ceil(DENSE_SHARE * epochs)
        fit(model, method, fitting, settings, dense, generator)
        epochs, masks = epochs - dense, kept(model, settings["strength"])
    loss = fit(model, method, fitting, settings, epochs, generator, masks)
    return {"loss": loss, **assess(model, validation, test, precision)}


def assess(model: nn.Module, validation: Split, test: Split, precision: str) -> dict[str, float]:
    """How good and how sparse a network is, as it is and with its small weights rounded off."""
    values = {
        "validation": accuracy(model, validation, precision),
        "test": accuracy(model, test, precision),
        "zeros": zeros(model),
        "zero_filters": zero_filters(model),
        "tiny": float((magnitudes(model) < TINY).float().mean()),
        "norm": float(magnitudes(model).sum()),
    }
    round_off(model, validation, precision, values["validation"])
    return values | {
        "rounded_validation": accuracy(model, validation, precision),
        "rounded_test": accuracy(model, test, precision),
        "rounded_zeros": zeros(model),
    }


def time_steps(cell: Cell, context: Context) -> dict[str, Any]:
    """Processor seconds of a whole training step, forward and backward included; the methods take turns."""
    settings: Any = cell.parameters
    split, _, _ = splits(context.data, settings["train"], settings["validation"], settings["test"])
    inputs, labels = split.inputs[: settings["batch"]], split.labels[: settings["batch"]]
    ways = {}
    for name in settings["methods"]:
        model = build(settings["network"], cell.seed, settings["stem_stride"])
        ways[name] = (model, *METHODS[name].make(model, 1e-4, METHODS[name].middle(settings["network"])))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(TIMED_ROUNDS + 2):
        for name, (model, optimizer, extra) in ways.items():
            begin = time.process_time()
            loss = functional.cross_entropy(logits(model, inputs, settings["precision"]), labels)
            optimizer.zero_grad()
            (loss if extra is None else loss + extra()).backward()
            optimizer.step()
            times[name].append(time.process_time() - begin)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def training_cell(scale: Scale, network: str, method: str, rate: float, strength: float, seed: int) -> Cell:
    """One training run."""
    settings = {"network": network, "method": method, "lr": rate, "strength": strength, **scale.settings()}
    cost = scale.train * scale.epochs * (6e-4 if network == "vgg13" else 3e-4)
    return Cell(EXPERIMENT, settings, seed, VERSION, cost)


def tuning(scale: Scale) -> list[Cell]:
    """The runs that choose each method's step size, at its middle penalty."""
    return [
        training_cell(scale, network, name, rate, method.middle(network), TUNING_SEED)
        for network in NETWORKS
        for name, method in METHODS.items()
        for rate in method.rates(network)
    ]


def chosen_rates(scale: Scale, store: Store) -> dict[tuple[str, str], float]:
    """The step size of each network and method: the best one on validation among those that are stored."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    for cell in tuning(scale):
        record = store.load(cell)
        if record is not None:
            key = (str(cell.parameters["network"]), str(cell.parameters["method"]))
            candidate = (record["validation"], -float(cell.parameters["lr"]))  # type: ignore[arg-type]
            found[key] = max(found.get(key, candidate), candidate)
    return {key: -rate for key, (_, rate) in found.items()}


def stages(scale: Scale, rates: Mapping[tuple[str, str], float]) -> list[list[Cell]]:
    """What is reported: first the middle penalty of every method, then the others; all seeds of one before the next."""
    plan: list[list[Cell]] = []
    for position in range(scale.strengths):
        for network in NETWORKS:
            cells = []
            for name, method in METHODS.items():
                strengths = method.ordered_strengths(network)
                if (network, name) in rates and position < len(strengths):
                    rate, strength = rates[network, name], strengths[position]
                    cells += [training_cell(scale, network, name, rate, strength, s) for s in range(scale.seeds)]
            plan.append(cells)
    return plan


def timing(scale: Scale) -> list[Cell]:
    """The runs that time steps."""
    return [
        Cell(TIMING, {"network": network, "methods": tuple(METHODS), **scale.settings()}, 0, VERSION)
        for network in NETWORKS
    ]


class Lines(SilentWatcher):
    """A line for each run."""

    def finished(self, cell: Cell, record: Record) -> None:
        """Print what came out."""
        if cell.claim == EXPERIMENT:
            p = cell.parameters
            print(
                f"{p['network']:8} {p['method']:12} lr {p['lr']:<6g} λ {p['strength']:<8g} seed {cell.seed:<3} "
                f"validation {record['validation']:.3f} zeros {record['zeros']:.3f} filters "
                f"{record['zero_filters']:.3f} rounded {record['rounded_zeros']:.3f} {record.seconds:.1f} s",
                flush=True,
            )

    def failed(self, cell: Cell, message: str) -> None:
        """Print the traceback."""
        print(cell.parameters, message, flush=True)


def stored(cells: Iterable[Cell], store: Store) -> list[Record]:
    """The records that there are."""
    return [record for record in map(store.load, cells) if record is not None]


def complete(records: list[Record], scale: Scale) -> list[Record]:
    """Those of methods and penalties of which all seeds are there."""

    def of(record: Record) -> tuple[Any, ...]:
        return tuple(record.parameters[name] for name in ("network", "method", "strength"))

    seeds = Counter(map(of, records))
    return [record for record in records if seeds[of(record)] == scale.seeds]


def default_data() -> str:
    """CIFAR-10 in the folder NONSMOOTH_DATA, else in ../shared/data, else from the hub."""
    repository = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("NONSMOOTH_DATA", repository.parent / "shared" / "data")) / "cifar10"
    return str(folder) if folder.is_dir() else "cifar10"


def main() -> None:
    """Train what is missing, print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=SCALES, default="quick")
    parser.add_argument("--data", default=default_data(), help="cifar10, or a folder that holds it")
    parser.add_argument("--store", type=Path, default=Path("results/cifar-sparsity"))
    parser.add_argument("--report", action="store_true", help="train nothing, report what is stored")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    scale, store = SCALES[arguments.scale], Store(arguments.store)
    context = Context("cpu", arguments.data)

    def measured(cells: list[Cell]) -> None:
        if not arguments.report:
            run(cells, measure, store, context=context, watcher=Lines())

    measured(tuning(scale) + timing(scale))
    plan = stages(scale, chosen_rates(scale, store))
    for cells in plan:
        measured(cells)
    records = complete(stored((cell for cells in plan for cell in cells), store), scale)
    if not records:
        raise SystemExit(f"no method is stored with all its seeds in {arguments.store}")
    page, figure = cifar_sparsity_page.write(records, stored(timing(scale), store), scale, arguments.scale)
    print(page)
    if arguments.output is not None:
        arguments.output.write_text(page, encoding="utf-8")
        (arguments.output.parent / cifar_sparsity_page.FIGURE).write_text(figure, encoding="utf-8")


if __name__ == "__main__":
    main()
