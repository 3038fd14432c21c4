"""Sharpness by this package, by curvlinops with scipy's eigsh, and by PyHessian: products, seconds and error.

    python benchmarks/sharpness.py [--quick] [--output docs/benchmarks/sharpness.md]

All measure the same function in one process, taking turns. The exact value is the largest eigenvalue of the dense
Hessian in float64 where that is small enough, elsewhere that of eigsh at full precision. curvlinops and PyHessian are
no dependencies of this package; what is not installed is left out:

    pip install --no-deps curvlinops-for-pytorch backpack-for-pytorch einops einconv unfoldNd linear_operator jaxtyping
    pip install --no-deps pyhessian
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.nn import functional

from nonsmooth import extremes
from nonsmooth.curvature import hessian_operator, sharpness
from nonsmooth.data import load_images

DENSE = 1500
"""Parameters up to which the reference is a dense Hessian."""


@dataclass(frozen=True)
class Case:
    """A network with its data, in float64 for the reference and in float32 for what is compared."""

    name: str
    model: nn.Module
    inputs: Tensor
    targets: Tensor

    def closure(self) -> Tensor:
        """The loss."""
        return functional.cross_entropy(self.model(self.inputs), self.targets)


@dataclass(frozen=True)
class Outcome:
    """What one way came to."""

    value: float
    products: int


def case(name: str, layers: list[nn.Module], count: int, steps: int) -> Case:
    """A classifier of digits, trained for some steps of Adam."""
    images = load_images("digits", "train", limit=count, size=8)
    inputs, model = images.inputs[:, :1], nn.Sequential(*layers)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), images.labels).backward()
        optimizer.step()
    optimizer.zero_grad()
    return Case(f"{name}, {steps} steps", model, inputs, images.labels)


def cases() -> list[Case]:
    """A small and a larger perceptron and a convolutional network, untrained and trained."""
    found = []
    for steps in (0, 100):
        torch.manual_seed(0)
        small = [nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)]
        wide = [nn.Flatten(), nn.Linear(64, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 10)]
        convolutional = [nn.Conv2d(1, 16, 3, padding=1), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.GELU()]
        convolutional += [nn.Flatten(), nn.Linear(128, 10)]
        found.append(case("perceptron", small, 1000, steps))
        found.append(case("wide perceptron", wide, 1000, steps))
        found.append(case("convolutional", convolutional, 500, steps))
    return found


def reference(one: Case) -> tuple[float, int, str]:
    """The exact value in float64, the number of parameters, and how it was found."""
    double = Case(one.name, one.model.double(), one.inputs.double(), one.targets)
    with hessian_operator(double.closure, double.model.parameters()) as operator:
        size = operator.size
        if size <= DENSE:
            rows = [operator.product(row) for row in torch.eye(size, dtype=torch.float64)]
            value, how = float(torch.linalg.eigvalsh(torch.stack(rows))[-1]), "dense"
        else:
            value, how = scipys(operator.product, size, tolerance=0.0).value, "eigsh"
    one.model.float()
    return value, size, how


def scipys(product: Callable[[Tensor], Tensor], size: int, tolerance: float) -> Outcome:
    """The implicitly restarted Lanczos method of scipy, from its own random start."""
    counted = 0
    kind = torch.float64 if tolerance == 0 else torch.float32

    def matvec(vector):
        nonlocal counted
        counted += 1
        return product(torch.as_tensor(vector, dtype=kind).reshape(-1)).numpy()

    operator = LinearOperator((size, size), matvec=matvec, dtype="float64" if tolerance == 0 else "float32")
    value = eigsh(operator, k=1, which="LA", tol=tolerance, return_eigenvectors=False)
    return Outcome(float(value[0]), counted)


def ours(one: Case, tolerance: float, start: Tensor | None, seed: int) -> tuple[Outcome, Tensor | None]:
    """This package."""
    most = 15 if tolerance >= 1e-2 else 60
    found = sharpness(
        one.closure, one.model.parameters(), tolerance=tolerance, max_products=most, start=start, seed=seed
    )
    return Outcome(found.value, found.products), found.eigenvector


def curvlinopss(one: Case, tolerance: float) -> Outcome:
    """The Hessian of curvlinops under eigsh."""
    from curvlinops import HessianLinearOperator  # noqa: PLC0415  a peer that may be absent

    parameters = list(one.model.parameters())
    operator = HessianLinearOperator(
        one.model, nn.CrossEntropyLoss(), parameters, [(one.inputs, one.targets)], check_deterministic=False
    )
    product = operator.to_scipy()
    return scipys(lambda v: torch.from_numpy(product @ v.numpy()), product.shape[0], tolerance)


def pyhessians(one: Case, tolerance: float) -> Outcome:
    """PyHessian's power iteration, which looks for the largest eigenvalue in magnitude."""
    from pyhessian import hessian  # noqa: PLC0415  a peer that may be absent

    counted = 0
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that backward(create_graph=True) leaks
        measured = hessian(one.model, nn.CrossEntropyLoss(), data=(one.inputs, one.targets), cuda=False)
        module = sys.modules["pyhessian.hessian"]  # the package has a class of that name
        plain = module.hessian_vector_product

        def counting(*arguments):
            nonlocal counted
            counted += 1
            return plain(*arguments)

        module.hessian_vector_product = counting
        try:
            values, _ = measured.eigenvalues(maxIter=100, tol=tolerance, top_n=1)
        finally:
            module.hessian_vector_product = plain
    one.model.zero_grad(set_to_none=True)
    return Outcome(float(values[0]), counted)


def ways(tolerance: float) -> dict[str, Callable[[Case, int], Outcome]]:
    """The ways to compare at a tolerance, by name."""
    found: dict[str, Callable[[Case, int], Outcome]] = {
        "ours": lambda one, seed: ours(one, tolerance, None, seed)[0],
    }
    if importlib.util.find_spec("curvlinops"):
        found["curvlinops + eigsh"] = lambda one, seed: curvlinopss(one, tolerance)
    if importlib.util.find_spec("pyhessian"):
        found["PyHessian"] = lambda one, seed: pyhessians(one, tolerance)
    return found


def compared(one: Case, tolerance: float, rounds: int) -> list[str]:
    """A line of the table for each way, all taking turns."""
    exact, size, how = reference(one)
    tried = ways(tolerance)
    last = ours(one, tolerance, None, 0)[1]
    with torch.no_grad():  # a step of training further on, for the warm start
        nudged = [parameter.detach().clone() for parameter in one.model.parameters()]
        for parameter in one.model.parameters():
            parameter.mul_(0.999)
        last = ours(one, tolerance, last, 0)[1]
        for parameter, kept in zip(one.model.parameters(), nudged, strict=True):
            parameter.copy_(kept)
    tried = {"ours": tried.pop("ours"), "ours, warm": lambda one, seed: ours(one, tolerance, last, seed)[0], **tried}
    for way in tried.values():
        way(one, 0)
    seconds: dict[str, list[float]] = {name: [] for name in tried}
    outcomes: dict[str, list[Outcome]] = {name: [] for name in tried}
    for seed in range(rounds):
        for name, way in tried.items():
            began = time.perf_counter()
            outcomes[name].append(way(one, seed))
            seconds[name].append(time.perf_counter() - began)
    base = statistics.median(seconds["ours"])
    lines = []
    for name in tried:
        error = extremes.largest(abs(outcome.value / exact - 1) for outcome in outcomes[name])
        count = statistics.median(outcome.products for outcome in outcomes[name])
        taken = statistics.median(seconds[name])
        lines.append(
            f"| {one.name} | {size:,} | {exact:.4g} ({how}) | {name} | {count:g} | {taken:.3f} | {taken / base:.2f} | "
            f"{error:.1e} |"
        )
    return lines


def page(rounds: int) -> str:
    """The page."""
    absent = [name for name in ("curvlinops", "pyhessian") if not importlib.util.find_spec(name)]
    head = "| network | parameters | λ_max (reference) | way | products | seconds | × ours | largest error |\n" + (
        "|---|---|---|---|---|---|---|---|\n"
    )
    chosen = cases()
    tables = []
    for tolerance in (1e-2, 1e-4):
        lines = [line for one in chosen for line in compared(one, tolerance, rounds)]
        tables.append(f"## Tolerance {tolerance:g}\n\n{head}" + "\n".join(lines) + "\n")
    return f"""# Sharpness

`make bench-sharpness` wrote this page.

The largest eigenvalue of the Hessian of networks that classify the digits, in float32 on one thread: products with the
Hessian, seconds (medians of {rounds} rounds, each from another random start, taking turns in one process) and the
largest relative error over the rounds against a reference in float64. *Warm* starts from the eigenvector at weights
0.1 % away, as a run that is measured every few steps does. PyHessian iterates powers and returns the largest eigenvalue
in *magnitude*; its tolerance is that of successive iterates.
{"Not installed and left out: " + ", ".join(absent) + "." if absent else ""}
{chr(10).join(tables)}
"""


def main() -> None:
    """Print the page, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = page(2 if arguments.quick else 5)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
