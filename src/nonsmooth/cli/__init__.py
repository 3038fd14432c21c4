"""The command line: `nonsmooth reproduce`, `nonsmooth claims`, `nonsmooth report`, `nonsmooth floor`.

What is slow to load (torch, pyarrow, plotly) is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

from nonsmooth.extras import require

require("reproduce", "The command line")

import typer

import nonsmooth
from nonsmooth.foreign_text import visible

app = typer.Typer(
    name="nonsmooth",
    help="Train functions that are not differentiable everywhere: reproduce what a paper says of it, predict a norm.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Scale(str, Enum):
    """How large an experiment is."""

    QUICK = "quick"
    STANDARD = "standard"
    PAPER = "paper"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nonsmooth {nonsmooth.__version__}")
        raise typer.Exit


def _folder(text: str | Path) -> Path:
    """A folder as typed; it need not exist. An empty name would silently be the folder that one is in."""
    if not str(text):
        raise typer.BadParameter("the name is empty; accepted is the path of a folder")
    folder = Path(text)
    try:
        in_the_way = folder.exists() and not folder.is_dir()
    except OSError as error:
        raise typer.BadParameter(f"{str(text)[:80]!r}: {error.strerror}") from error
    if in_the_way:
        raise typer.BadParameter(f"{str(text)!r} is a file; accepted is the path of a folder")
    return folder


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """Options that stand before a command."""


# Unknown options arrive as claims, where the error can list the options that exist.
@app.command(context_settings={"ignore_unknown_options": True})
def reproduce(
    context: typer.Context,
    claims: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CLAIM", help="Claims to reproduce, by id or as my_claim.py; default: all of the paper."
        ),
    ] = None,
    scale: Annotated[
        Scale, typer.Option(help="quick: minutes on two cores. standard: a night. paper: the paper's set-up, on a GPU.")
    ] = Scale.QUICK,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="digits|cifar10|FOLDER",
            help="Images to train on; a folder holds CIFAR-10. Default: digits at scale quick, else cifar10.",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="cpu|cuda|cuda:N", help="Default: cpu; at scale paper cuda, if there is one."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds of each random experiment. Default: each claim's own number.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="FIRST", help="The first seed.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cells measured at once. Default: one per core; with cuda, one.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=_folder, help="Default: results/ and a name made of the settings, such as quick."
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure everything anew, also what is stored.")] = False,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Measure only the cells whose parameter KEY has VALUE; repeatable. Parts share the folder.",
        ),
    ] = None,
) -> None:
    """Reproduce the paper's claims, each with its control, and write a report.

    What is measured is stored cell by cell in DIR: the same command goes on where an interrupted one ended.
    """
    from nonsmooth.cli.reproduction import Request, reproduce_claims  # noqa: PLC0415  slow to load

    names = claims or []
    unknown = next((name for name in names if name.startswith("-")), None)
    if unknown is not None:
        options = sorted(option for parameter in context.command.params for option in parameter.opts if "--" in option)
        raise typer.BadParameter(
            f"there is no option {visible(unknown)}; the options are {', '.join(options)}", ctx=context
        )
    request = Request(
        claims=tuple(names),
        scale=scale.value,
        data=("digits" if scale is Scale.QUICK else "cifar10") if data is None else data,
        device=device,
        seeds=seeds,
        first_seed=seed,
        workers=workers,
        out=out,
        fresh=fresh,
        where=tuple(where or ()),
    )
    raise typer.Exit(reproduce_claims(request))


@app.command("claims")
def list_claims(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with statement, explanation and control.")] = False,
) -> None:
    """List the claims: id, where in the paper, title."""
    from nonsmooth.cli.listing import print_claims  # noqa: PLC0415  slow to load

    print_claims(as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", parser=_folder, help="The folder of a run.")],
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Files of claims of your own, such as my_claim.py.")
    ] = None,
) -> None:
    """Judge and draw again what is stored in DIR, and write its results and its report anew."""
    from nonsmooth.cli.reproduction import report_again  # noqa: PLC0415  slow to load

    raise typer.Exit(report_again(folder, files or ()))


class Precision(str, Enum):
    """What weights are stored in."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@app.command()
def floor(
    optimizer: Annotated[
        str,
        typer.Option(metavar="NAME", help="sgd, momentum, nesterov, adam, adamw, rmsprop, … of torch.optim."),
    ],
    lr: Annotated[float, typer.Option(help="The step size α.")],
    lam: Annotated[float, typer.Option(help="λ, the strength of the L1 penalty in the loss.")],
    params: Annotated[int, typer.Option(min=1, help="Number of weights, P.")] = 1,
    momentum: Annotated[
        float | None, typer.Option(help="Default: 0.9 for momentum and nesterov, else torch's.")
    ] = None,
    noise: Annotated[float, typer.Option(help="Standard deviation of the noise in each weight's gradient.")] = 0.0,
    dtype: Annotated[Precision, typer.Option(help="What the weights are stored in.")] = Precision.FLOAT32,
    threshold: Annotated[float, typer.Option(help="Weights below it are counted.")] = 1e-5,
    start: Annotated[
        float | None,
        typer.Option(help="Standard deviation of the weights before training. Default: far, 30 steps from zero."),
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Default: torch's.")] = None,
    betas: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="β₁ β₂", help="Decay rates of Adam's two averages. Default: torch's."),
    ] = None,
    max_steps: Annotated[int, typer.Option(min=1, help="The most steps until the law has settled.")] = 1 << 15,
    seed: Annotated[int, typer.Option(min=0, help="Of the starts and of the noise.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Predict the L1 norm at which a network under an L1 penalty gets stuck, before it is trained.

    Runs the optimiser on independent problems λ|w| of one weight each and prints the law of |w| that it ends with.
    """
    from nonsmooth.cli.floor import FloorError, FloorRequest, print_floor  # noqa: PLC0415  slow to load

    request = FloorRequest(
        optimizer=optimizer,
        lr=lr,
        strength=lam,
        parameters=params,
        momentum=momentum,
        noise=noise,
        dtype=dtype.value,
        threshold=threshold,
        start=start,
        weight_decay=weight_decay,
        betas=betas,
        max_steps=max_steps,
        seed=seed,
    )
    try:
        print_floor(request, as_json)
    except FloorError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error


def main() -> None:
    """Run the command line: the console script's entry point."""
    from nonsmooth.cli.terminal import run_command  # noqa: PLC0415  tests of the commands load them without it

    raise SystemExit(run_command(app))
