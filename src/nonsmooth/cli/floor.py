"""`nonsmooth floor`: the L1 norm at which a penalised network gets stuck, before it is trained."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.optim import Optimizer

from nonsmooth.cli.terminal import Terminal, print_json
from nonsmooth.dynamics.kink_ensemble import UnsuitableOptimizerError
from nonsmooth.dynamics.stationary import StationaryLaw, stationary_law
from nonsmooth.optim import attach
from nonsmooth.penalties import L1

NICKNAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
}
"""Names that are none of torch's: the class and its options."""

OPTIONAL = {
    "momentum": "sgd, nesterov and rmsprop",
    "betas": "adam, adamax, adamw, nadam and radam",
    "weight_decay": "all but rprop",
}
"""Options of optimisers, and which of those with a law have them."""

DTYPES = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16}

ROWS = 10
"""Bars of the plot."""

LABEL_WIDTH = 22
EIGHTHS = " ▏▎▍▌▋▊▉"


class FloorError(ValueError):
    """A floor that cannot be predicted, and the option that is to blame.

    Attributes:
        option: its name.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True)
class FloorRequest:
    """What the user asked for.

    Attributes:
        optimizer: a name in `torch.optim`, in any case, or one of `NICKNAMES`.
        lr: α.
        strength: λ.
        parameters: number of weights, P.
        momentum: μ, or None for the optimiser's default.
        noise: σ, the standard deviation of each gradient's noise.
        dtype: a name in `DTYPES`.
        threshold: τ, below which weights are counted.
        start: standard deviation of the weights before training, or None.
        weight_decay: the optimiser's own, or None for its default.
        betas: decay rates of the optimiser's averages, or None for its default.
        max_steps: the most steps of burn-in.
        seed: of the starts and of the noise.
    """

    optimizer: str
    lr: float
    strength: float
    parameters: int
    momentum: float | None
    noise: float
    dtype: str
    threshold: float
    start: float | None
    weight_decay: float | None
    betas: tuple[float, float] | None
    max_steps: int
    seed: int


def print_floor(request: FloorRequest, as_json: bool) -> None:
    """Predict and print, for a reader or as one JSON object.

    Raises:
        FloorError: an option is out of its range, or the optimiser has no law.
    """
    title, make_optimizer = _optimizer_of(request)
    law = _law(request, make_optimizer)
    try:
        proximal = _law(request, lambda parameters: attach(make_optimizer(parameters), L1(request.strength)))
    except FloorError:  # the law of the optimiser itself exists, so it is the prox that does not
        proximal = None
    if as_json:
        options = make_optimizer([torch.zeros(1, requires_grad=True)]).param_groups[0]
        print_json(_as_json(request, title, options, law, proximal))
        return
    console = Terminal()
    console.print(Text(f"{title} on λ|w|, α = {request.lr:g}, λ = {request.strength:g}, {request.dtype}", "bold"))
    console.print()
    console.print(_numbers(request, law, proximal))
    console.print()
    console.print(_plot(law, console.width))
    console.print()
    console.print(_verdict(law))


def _optimizer_of(request: FloorRequest) -> tuple[str, Callable[[list[Tensor]], Optimizer]]:
    """The name of the optimiser for a reader, and what makes it."""
    _check(request)
    classes = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, Optimizer) and kind is not Optimizer
    }
    wanted = request.optimizer.lower()
    name, options = NICKNAMES.get(wanted, (wanted, {}))
    kind = classes.get(name.lower())
    if kind is None:
        accepted = ", ".join(sorted({*classes, *NICKNAMES}))
        raise FloorError("--optimizer", f"there is no optimiser {request.optimizer!r}; accepted are {accepted}")
    for option, having in OPTIONAL.items():
        value = getattr(request, option)
        if value is None:
            continue
        if option not in inspect.signature(kind).parameters:
            raise FloorError(
                f"--{option.replace('_', '-')}", f"{kind.__name__} has no {option.replace('_', ' ')}; {having} have"
            )
        options = {**options, option: value}
    title = kind.__name__
    if options.get("momentum"):
        title += f", {'Nesterov' if options.get('nesterov') else 'momentum'} {options['momentum']:g}"
    if request.betas is not None:
        title += f", betas {request.betas[0]:g} {request.betas[1]:g}"
    if request.weight_decay is not None:
        title += f", weight decay {request.weight_decay:g}"
    make: Callable[..., Optimizer] = kind
    return title, lambda parameters: make(parameters, lr=request.lr, **options)


def _check(request: FloorRequest) -> None:
    """Raise unless every number is in its range."""
    positive = {"--lr": request.lr, "--lam": request.strength, "--threshold": request.threshold}
    for option, value in {**positive, "--start": request.start}.items():
        if value is not None and not 0 < value < math.inf:
            raise FloorError(option, f"{value:g} is not a positive number")
    for option, value in {"--noise": request.noise, "--weight-decay": request.weight_decay}.items():
        if value is not None and not 0 <= value < math.inf:
            raise FloorError(option, f"{value:g} is not a number of at least 0")
    if not 0 <= request.seed < 1 << 64:
        raise FloorError("--seed", f"{request.seed} is not a whole number of 64 bits")
    rates = [("--momentum", request.momentum), *(("--betas", beta) for beta in request.betas or ())]
    for option, value in rates:
        if value is not None and not 0 <= value < 1:
            raise FloorError(option, f"{value:g} is not a number from 0 to below 1")


def _law(request: FloorRequest, make_optimizer: Callable[[list[Tensor]], Optimizer]) -> StationaryLaw:
    try:
        return stationary_law(
            make_optimizer,
            request.strength,
            request.noise,
            start=request.start,
            max_steps=request.max_steps,
            seed=request.seed,
            dtype=DTYPES[request.dtype],
        )
    except UnsuitableOptimizerError as error:
        raise FloorError(
            "--optimizer", f"{error.kind}, {error.fault}, has no law; accepted are {error.accepted}"
        ) from error
    except (ValueError, TypeError, RuntimeError, FloatingPointError) as error:
        raise FloorError("--optimizer", f"{request.optimizer} has no law: {error}") from error


def _as_json(
    request: FloorRequest, title: str, options: dict[str, Any], law: StationaryLaw, proximal: StationaryLaw | None
) -> dict[str, Any]:
    """One object; numbers that do not exist are null, as are options that the optimiser does not have."""

    def norms(of: StationaryLaw) -> dict[str, Any]:
        return {
            "l1_norm": of.l1_norm(request.parameters),
            "fraction_below": of.fraction_below(request.threshold),
            "exact_zeros": of.exact_zeros,
            "mean_magnitude": of.mean_magnitude,
            "standard_error": of.standard_error,
            "flips_per_step": of.flips_per_step,
            "stalled": of.stalled,
            "settled": of.settled,
            "steps": of.steps,
            "drift": of.drift if math.isfinite(of.drift) else None,
            "unsettled": of.unsettled or None,
        }

    return {
        "optimizer": title,
        "lr": request.lr,
        "lam": request.strength,
        "parameters": request.parameters,
        "noise": request.noise,
        "dtype": request.dtype,
        "threshold": request.threshold,
        "start": request.start,
        "momentum": options.get("momentum"),
        "betas": options.get("betas"),
        "weight_decay": options.get("weight_decay"),
        "max_steps": request.max_steps,
        "seed": request.seed,
        **norms(law),
        "closed_form": law.closed_form,
        "proximal": None if proximal is None else norms(proximal),
    }


def _numbers(request: FloorRequest, law: StationaryLaw, proximal: StationaryLaw | None) -> Table:
    """The prediction, a line for each number."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column()
    weights = "weight" if request.parameters == 1 else "weights"
    norm, error = law.l1_norm(request.parameters), request.parameters * law.standard_error
    table.add_row(f"L1 norm of {request.parameters:,} {weights}", Text(f"{_number(norm)} ± {_number(error)}", "bold"))
    table.add_row("mean |w|", f"{law.mean_magnitude:.4g}")
    if law.closed_form is not None and not law.stalled:
        table.add_row("the same in closed form", f"{law.closed_form:.4g}")
    table.add_row(f"below {request.threshold:g}", f"{law.fraction_below(request.threshold):.2%}")
    table.add_row("exactly zero", f"{law.exact_zeros:.2%}")
    table.add_row("sign flips per step", f"{law.flips_per_step:.3f}")
    if law.stalled:
        table.add_row("not moving at all", f"{law.stalled:.2%}")
    if proximal is None:
        table.add_row("with a proximal step", "not known for this optimiser")
    else:
        norm = proximal.l1_norm(request.parameters)
        table.add_row("with a proximal step", Text(f"L1 norm {_number(norm)}", "green"))
        table.add_row("", Text(f"{proximal.exact_zeros:.2%} exactly zero", "green"))
        if not proximal.settled:
            table.add_row("", Text("not settled", "yellow"))
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _plot(law: StationaryLaw, width: int) -> Text:
    """The distribution of |w| as bars."""
    top, usual = law.quantile(1.0), law.quantile(0.99)
    if top > 2 * usual > 0:  # a long tail would leave one bar for everything else
        top = usual
    shares = [("exactly 0", law.exact_zeros)]
    ends = [top * index / ROWS for index in range(ROWS + 1)]
    if top > 0:
        below = [law.exact_zeros, *(law.fraction_below(end) for end in ends[1:])]
        shares += [
            (f"{low:.3g} to {high:.3g}", after - before)
            for low, high, before, after in zip(ends, ends[1:], below, below[1:], strict=False)
        ]
        shares.append((f"above {top:.3g}", 1 - law.fraction_below(top)))
    room = max(5, min(40, width - LABEL_WIDTH - 9))
    largest = max(share for _, share in shares)
    text = Text(f"{'|w|':<{LABEL_WIDTH}} share of the weights", no_wrap=True)
    for label, share in shares:
        text.append(f"\n{label:<{LABEL_WIDTH}} ")
        text.append(_bar(share / largest * room), "cyan")
        text.append(f" {share:.1%}")
    return text


def _bar(length: float) -> str:
    """A bar of that many characters, to an eighth."""
    whole, eighth = divmod(round(8 * length), 8)
    return "█" * whole + EIGHTHS[eighth].strip()


def _verdict(law: StationaryLaw) -> Text:
    """Whether the numbers are those of a law."""
    if law.settled:
        return Text(f"Settled: the law was recorded after {law.steps:,} steps.")
    return Text(
        f"Not settled after {law.steps:,} steps: {law.unsettled}. The numbers are those of that step, not of a law. "
        "More steps may settle it: --max-steps.",
        "yellow",
    )
