"""What the user picked: claims, a part of the cells, images, a device. Errors list what there is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import typer

from nonsmooth.claims.framework.registry import CLAIM_IDS, add_claim_file, claim_ids
from nonsmooth.data import HUB_NAMES, DataError, load_images
from nonsmooth.foreign_text import visible
from nonsmooth.lab import Cell


def pick_claims(names: Sequence[str]) -> tuple[str, ...]:
    """The claims named, by id or file, in the paper's order; all of the paper, if none is named.

    Raises:
        typer.BadParameter: a claim does not exist, or a file is no claim.
    """
    try:
        of_files = {name: add_claim_file(name) for name in names if is_claim_file(name)}
    except ValueError as error:
        raise typer.BadParameter(visible(error)) from error
    ids = {of_files.get(name, name) for name in names}
    available = claim_ids()
    for claim_id in ids:
        if claim_id not in available:
            raise typer.BadParameter(
                f"there is no claim {claim_id!r}; the claims are {', '.join(available)}, and a file of your own is "
                "named by its path, which ends in .py"
            )
    return tuple(claim_id for claim_id in available if claim_id in ids) if names else CLAIM_IDS


def is_claim_file(name: str) -> bool:
    """Whether what was typed is the path of a file, and not the id of a claim."""
    return name.endswith(".py")


def pick_device(device: str | None, scale: str) -> str:
    """The device asked for; else cuda at scale paper if there is one, else cpu.

    Raises:
        typer.BadParameter: it is not a device that torch has here.
    """
    if device == "cpu" or (device is None and scale != "paper"):
        return "cpu"
    import torch  # noqa: PLC0415  slow to load

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device is None:
        return "cuda" if count else "cpu"
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if not match:
        raise typer.BadParameter(f"{device!r}; accepted are cpu, cuda and cuda:N", param_hint="--device")
    if int(match[1] or 0) >= count:
        raise typer.BadParameter(
            f"{device!r}, but torch {torch.__version__} sees {count or 'no'} CUDA device{'' if count == 1 else 's'} "
            "here; use cpu",
            param_hint="--device",
        )
    return device


def check_folder(data: str) -> None:
    """Refuse images that cannot exist.

    Raises:
        typer.BadParameter: neither the name of a data set nor a folder.
    """
    if data != "digits" and data not in HUB_NAMES and not _is_folder(data):
        raise typer.BadParameter(
            f"{data!r} is not a folder; accepted are {', '.join(('digits', *HUB_NAMES))}, or a folder that holds "
            "CIFAR-10",
            param_hint="--data",
        )


def _is_folder(name: str) -> bool:
    try:
        return bool(name) and Path(name).expanduser().is_dir()  # no name would be the folder that one is in
    except (OSError, RuntimeError, ValueError):  # too long, the home of nobody, or not a path at all
        return False


def check_images(data: str, cells: Iterable[Cell]) -> str | None:
    """What is wrong with the images, found out before hours of work; None if nothing is, or no cell needs them."""
    if data == "digits" or not any("cifar10" in cell.parameters.values() for cell in cells):
        return None
    try:
        load_images(data, "test", limit=10)
    except DataError as error:
        return str(error)
    return None
