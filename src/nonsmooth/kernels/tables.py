"""Which block of which tensor each program works on: addresses, sizes and owners as arrays on the device.

A program of a launch finds its tensor by its number alone, so that one launch serves any number of tensors. The arrays
are made once, and again where a tensor has moved or another has come.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nonsmooth.kernels.upload import Upload

BLOCK = 4096
"""Coordinates per program: with 256 threads, four loads of 16 bytes a thread and tensor in float32."""

ALIGNMENT = 16
"""Bytes that a thread loads at once."""

Role = Sequence[Tensor] | None
"""Tensors that play the same part, one per parameter; None where a step has no such part."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The types of parameters that programs are written for."""


class Launch(NamedTuple):
    """What one launch works on: the parameters of one combination of dtypes.

    Attributes:
        layout: int64, shape (3, tensors): sizes, first blocks, and the columns of the tensor of numbers.
        owners: int32, shape (blocks,): which tensor a block belongs to.
        addresses: int64, shape (roles, tensors); 0 for a role that is absent.
        tensors: their number.
        blocks: programs.
        dtypes: by role, None for one that is absent.
        aligned: whether each address is a multiple of 16 bytes.
    """

    layout: Tensor
    owners: Tensor
    addresses: Tensor
    tensors: int
    blocks: int
    dtypes: tuple[torch.dtype | None, ...]
    aligned: bool


class _Part:
    """The parameters of one combination of dtypes."""

    def __init__(self, columns: list[int], sizes: list[int], dtypes: tuple[Any, ...], block: int) -> None:
        self.columns, self.dtypes = columns, dtypes
        blocks = [-(-size // block) for size in sizes]
        *firsts, self.blocks = accumulate(blocks, initial=0)
        self.layout = torch.tensor([sizes, firsts, columns], dtype=torch.int64, device="cpu")
        self.owners = torch.arange(len(sizes), dtype=torch.int32, device="cpu").repeat_interleave(
            torch.tensor(blocks, device="cpu")
        )
        self.known: list[int] | None = None
        self.launch: Launch | None = None


class Table:
    """The launches for a group of parameters, kept from step to step.

    Args:
        device: where all tensors lie.
        block: coordinates per program, a power of 2.
    """

    def __init__(self, device: torch.device, *, block: int = BLOCK) -> None:
        self.device, self.block = device, block
        self._upload = Upload(device)
        self._form: Any = None
        self._parts: list[_Part] = []

    def launches(self, roles: Sequence[Role]) -> Iterator[Launch]:
        """One launch for each combination of dtypes that has a coordinate at all.

        Args:
            roles: lists of the same length, the first of them the parameters. Tensors of one parameter lie in memory
                alike (`qualifies`).

        Raises:
            ValueError: the lists have different lengths.
        """
        present = [role for role in roles if role is not None]
        if any(len(role) != len(present[0]) for role in present):
            raise ValueError(f"roles have {[len(role) for role in present]} tensors; accepted are equal numbers")
        form: list[list[Any]] = [[tensor.numel() for tensor in present[0]]]
        form += [[tensor.dtype for tensor in role] if role is not None else [] for role in roles]
        if form != self._form:
            self._parts, self._form = self._divided(roles), form
        for part in self._parts:
            addresses = [
                role[column].data_ptr() if role is not None else 0 for role in roles for column in part.columns
            ]
            launch = part.launch
            if launch is None or addresses != part.known:
                launch = self._launch(part, addresses, len(roles))
                # What is copied in a capture is there only once the graph is replayed.
                if not self._upload.capturing():
                    part.known, part.launch = addresses, launch
            self._upload.keep(launch.layout, launch.owners, launch.addresses)
            yield launch

    def _divided(self, roles: Sequence[Role]) -> list[_Part]:
        """Parameters that are not empty, by the dtypes of their tensors."""
        columns: dict[tuple[Any, ...], list[int]] = {}
        points = roles[0] or ()
        for column, point in enumerate(points):
            if point.numel():
                dtypes = tuple(None if role is None else role[column].dtype for role in roles)
                columns.setdefault(dtypes, []).append(column)
        return [
            _Part(found, [points[column].numel() for column in found], dtypes, self.block)
            for dtypes, found in columns.items()
        ]

    def _launch(self, part: _Part, addresses: list[int], roles: int) -> Launch:
        count = len(part.columns)
        if part.launch is None:
            layout, owners = self._upload(part.layout), self._upload(part.owners)
        else:
            layout, owners = part.launch.layout, part.launch.owners
        return Launch(
            layout,
            owners,
            self._upload(torch.tensor(addresses, dtype=torch.int64, device="cpu").view(roles, count)),
            count,
            part.blocks,
            part.dtypes,
            all(address % ALIGNMENT == 0 for address in addresses),
        )

    def on_device(self) -> AbstractContextManager[Any]:
        """Makes the table's device the current one, on which Triton launches."""
        return self._upload.on_device()


def qualifies(point: Tensor, *others: Tensor) -> bool:
    """Whether the tensors of a parameter lie in memory without gaps, and in the same order.

    Args:
        point: the parameter, or this process's shard of it.
        others: its gradient, its states.
    """
    if point.dtype not in FLOATS or not _plain(point):
        return False
    contiguous = point.is_contiguous()
    if not contiguous and not _is_dense(point):
        return False
    shape, device, strides = point.shape, point.device, None if contiguous else _strides(point)
    for other in others:
        if other.shape != shape or other.device != device or not _plain(other):
            return False
        if not (other.is_contiguous() if contiguous else _strides(other) == strides):
            return False
    return True


def _plain(tensor: Tensor) -> bool:
    """Whether memory holds the values of a tensor as they are, dense."""
    return tensor.layout == torch.strided and not tensor.is_neg() and not tensor.is_complex()


def _strides(tensor: Tensor) -> list[int]:
    """Those that matter."""
    return [stride for stride, length in zip(tensor.stride(), tensor.shape, strict=True) if length > 1]


def _is_dense(tensor: Tensor) -> bool:
    """Whether a tensor fills its memory, as a convolution's weight does in channels-last format."""
    strides = tensor.stride()
    order = sorted(range(tensor.ndim), key=lambda dim: (-strides[dim], -tensor.shape[dim]))
    return tensor.permute(order).is_contiguous()
