"""Images to train on: scikit-learn's digits, CIFAR-10 from the hub, or a folder that holds such a data set.

CIFAR-10 is Krizhevsky (2009), "Learning multiple layers of features from tiny images". It carries no formal licence
and is not part of this package; the digits ship with scikit-learn.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nonsmooth.extras import install_command, require
from nonsmooth.foreign_text import visible

SPLITS = ("train", "test")
HUB_NAMES = {"cifar10": "uoft-cs/cifar10"}

Labels = npt.NDArray[np.int64]


class DataError(RuntimeError):
    """Images cannot be had; the message says in one line what to install or where to point."""


@dataclass(frozen=True)
class Images:
    """A labelled set of images.

    The tensors are shared by everyone in the process who loads the same images: do not write into them.

    Attributes:
        inputs: float32, shape (images, channels, size, size), (x - 0.5) / 0.5 of pixels in [0, 1] (App. B).
        labels: int64, shape (images,).
        name: where they come from, such as "digits train".
        classes: number of classes.
    """

    inputs: Tensor
    labels: Tensor
    name: str
    classes: int

    def __len__(self) -> int:
        return len(self.labels)


def load_images(source: str, split: str = "train", limit: int | None = None, size: int = 32) -> Images:
    """Load a split, once per process.

    Args:
        source: "digits" (scikit-learn's 8×8 digits, every fifth image of each class in the test split), "cifar10"
            (from the Hugging Face hub, downloaded once) or a folder that `datasets.load_dataset` reads, with the
            columns `img` and `label`.
        split: "train" or "test".
        limit: number of images, or None for all. A limited set has equally many images of each class, up to one, in
            an order that goes through the classes in turn; a smaller one is the beginning of a larger one.
        size: height and width in pixels; other sizes are resampled bilinearly.

    Returns:
        The images with three channels (the grey digits three times the same).

    Raises:
        ValueError: an unknown split, a limit below 1 or above the number of images, or a size below 1.
        DataError: the extra `vision` is not installed, the hub cannot be reached, or the folder is not there or does
            not hold such images.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; accepted are {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; accepted are numbers of at least 1, or None for all images")
    if size < 1:
        raise ValueError(f"size is {size}; accepted are numbers of at least 1")
    return _load(source, split, limit, size)


@lru_cache(maxsize=4)
def _load(source: str, split: str, limit: int | None, size: int) -> Images:
    if source == "digits":
        return _digits(split, limit, size)
    return _from_datasets(source, split, limit, size)


def resolve_source(name: str, where: str) -> str:
    """Where to load the images called `name` from, when the user pointed at `where`.

    Args:
        name: what an experiment asks for: "digits" or "cifar10".
        where: what the user said: "digits", "cifar10", or a folder that holds CIFAR-10.

    Returns:
        `name`, or the folder if the experiment asks for CIFAR-10 and the user has it there.
    """
    return name if name == "digits" or where == "digits" else where


def shuffled_labels(images: Images, seed: int) -> Images:
    """The same images with their labels permuted: as many of each class, no information about the images."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return replace(images, labels=images.labels[order], name=f"{images.name}, labels shuffled")


def _rank_within_class(labels: Labels) -> Labels:
    """How many earlier images have the same label, shape (images,)."""
    ranks = np.empty_like(labels)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return ranks


def _selected(labels: Labels, limit: int | None, source: str) -> Labels:
    """Indices of the images that a limit leaves, in order."""
    if limit is None:
        return np.arange(len(labels))
    if limit > len(labels):
        raise ValueError(f"limit is {limit}, but {source} has {len(labels)} images in this split")
    return np.lexsort((labels, _rank_within_class(labels)))[:limit]


def _images(pixels: Tensor, labels: Labels, name: str, classes: int, size: int) -> Images:
    """Resample and normalise pixels in [0, 1], shape (images, 3, height, width)."""
    if pixels.shape[-2:] != (size, size):
        shrinks = size < min(pixels.shape[-2:])
        pixels = functional.interpolate(
            pixels, size=(size, size), mode="bilinear", align_corners=False, antialias=shrinks
        )
    return Images((pixels - 0.5) / 0.5, torch.from_numpy(labels), name, classes)


def _digits(split: str, limit: int | None, size: int) -> Images:
    require("sklearn", "The data set digits")
    from sklearn.datasets import load_digits  # noqa: PLC0415  loaded where it is used: `import nonsmooth` stays light

    bunch = load_digits()
    labels = bunch.target.astype(np.int64)
    in_test = _rank_within_class(labels) % 5 == 4
    rows = np.flatnonzero(in_test if split == "test" else ~in_test)
    rows = rows[_selected(labels[rows], limit, "digits")]
    grey = torch.from_numpy(bunch.images[rows].astype(np.float32) / 16)
    return _images(grey[:, None].expand(-1, 3, -1, -1), labels[rows], f"digits {split}", 10, size)


def _from_datasets(source: str, split: str, limit: int | None, size: int) -> Images:
    rows = _open(source, split)
    missing = {"img", "label"} - set(rows.column_names)
    if missing:
        there = ", ".join(map(visible, rows.column_names))
        raise DataError(f"{visible(source)} has no column {', '.join(sorted(missing))}; it has {there}")
    labels = rows.with_format("numpy")["label"][:].astype(np.int64)
    chosen = _selected(labels, limit, source)
    classes = getattr(rows.features["label"], "num_classes", int(labels.max()) + 1)
    name = f"{source if source in HUB_NAMES else Path(source).name} {split}"
    return _images(_decode(rows, chosen), labels[chosen], name, classes, size)


def _open(source: str, split: str) -> Any:
    """The split as a `datasets.Dataset`."""
    try:
        import datasets  # noqa: PLC0415  an extra
        import PIL  # noqa: F401, PLC0415  decodes the images
    except ImportError as error:
        raise DataError(
            f"images from {source!r} need the package {error.name!r}: {install_command('vision')}"
        ) from error
    folder = Path(source).expanduser()
    if source not in HUB_NAMES and not folder.is_dir():
        raise DataError(
            f"there is no folder {source!r}; point to one that holds CIFAR-10, or use the data sets "
            f"{', '.join(('digits', *HUB_NAMES))}"
        )
    try:
        return datasets.load_dataset(HUB_NAMES.get(source, str(folder)), split=split)
    except (OSError, ValueError, RuntimeError) as error:
        advice = (
            f"the hub could not be reached; point to a folder that holds {source} instead"
            if source in HUB_NAMES
            else "the folder should be as `datasets.load_dataset` reads it"
        )
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"cannot load split {split!r} of {source!r}: {advice} ({visible(reason)})") from error


def _decode(rows: Any, chosen: Labels) -> Tensor:
    """Decode the chosen images, in that order: float32 in [0, 1], shape (images, 3, height, width)."""
    import datasets  # noqa: PLC0415  an extra
    from PIL import Image  # noqa: PLC0415  an extra

    # Decoding here takes half the time that it takes through the rows of the data set.
    encoded = rows.cast_column("img", datasets.Image(decode=False)).select(chosen)["img"][:]
    files = [io.BytesIO(item["bytes"]) if item["bytes"] is not None else item["path"] for item in encoded]
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in files]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous().float() / 255
