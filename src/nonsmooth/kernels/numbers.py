"""The numbers of a group of parameters as one tensor on their device, so that a new λ or step size compiles nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum

import torch
from torch import Tensor

from nonsmooth.kernels.upload import Upload

Entry = float | Tensor | Sequence[float | Tensor]
"""A number for all parameters, a tensor of one or of n, or a sequence of n numbers and tensors of one."""


class Row(IntEnum):
    """What each row of the tensor of numbers holds; a program reads the rows that it needs."""

    HALTED = 0
    """Above 0: nothing is changed."""
    STRENGTH = 1
    """λ; on norms, that of a group."""
    L1_STRENGTH = 2
    """λ on coordinates, beside one on norms."""
    SHAPE = 3
    """The penalty's other number: r of the elastic net, γ of MCP and SCAD, a of the transformed L1."""
    STEP = 4
    """D where it is one number."""
    SCALE = 5
    """D = SCALE/(√square + EPSILON)."""
    EPSILON = 6
    """As above."""
    FULL = 7
    """The limit of the prox is TIMES·FULL - SLACK·D; centred, D((√square + EPSILON)·TIMES - SLACK)."""
    TIMES = 8
    """As above."""
    SLACK = 9
    """As above."""
    COUNT = 10
    """How many steps a memory of pulls has seen, this one included."""
    FORGETTING = 11
    """p: the t-th gradient has weight t^p in the mean pull."""
    WARM_UP = 12
    """After as many steps a weight that has crossed zero may stop there."""
    RATE = 13
    """α."""
    WEIGHT_DECAY = 14
    """Coupled or decoupled, as the step says."""
    MOMENTUM = 15
    """μ."""
    DAMPENING = 16
    """τ; 0 at a parameter's first step."""
    FIRST_BETA = 17
    """β₁."""
    SECOND_BETA = 18
    """β₂."""
    DIVISOR = 19
    """Adam's own ε."""
    CORRECTION = 20
    """1 - β₁^t."""
    ROOT_CORRECTION = 21
    """√(1 - β₂^t)."""
    GRAD_SCALE = 22
    """What gradients are divided by, where they are scaled."""


class _Values:
    """Tensors of one type, and the places that their values go to and come from when they stand in a row."""

    def __init__(self) -> None:
        self.pieces: list[Tensor] = []
        self.places: list[tuple[int, int]] = []
        self.length = 0

    def add(self, piece: Tensor, targets: Sequence[int], device: torch.device) -> None:
        """Note a tensor of one value for all targets, or of one for each."""
        size = piece.numel()
        self.pieces.append(piece if piece.device == device else piece.to(device, non_blocking=True))
        self.places.extend((target, self.length + (j if size > 1 else 0)) for j, target in enumerate(targets))
        self.length += size


class Numbers:
    """Makes the tensor of numbers of one group, float64, of shape (len(Row), n), without making the host wait.

    Numbers of the host are copied where they have changed; those that lie on the device already are put in there, by a
    few operations for all of them.

    Args:
        device: where the parameters lie.
        count: n, the parameters of the group.
    """

    def __init__(self, device: torch.device, count: int) -> None:
        self.device, self.count = device, count
        self._upload = Upload(device)
        self._known: list[float] | None = None
        self._uploaded: Tensor | None = None
        self._places: dict[tuple[tuple[int, int], ...], Tensor] = {}

    @torch.no_grad()
    def __call__(self, rows: Mapping[Row, Entry]) -> Tensor:
        """The tensor of numbers; rows that are not given are NaN, but for HALTED, which is 0.

        Args:
            rows: the entries by row. Tensors hold one real number each, or n where the entry is one tensor; they lie
                on the device, or on the host.

        Returns:
            A tensor that must not be written to: the next call may return it again.

        Raises:
            ValueError: an entry has another length.
        """
        host = [math.nan] * (len(Row) * self.count)
        found: dict[torch.dtype, _Values] = {}
        for row, entry in {Row.HALTED: 0.0, **rows}.items():
            self._put(row * self.count, entry, host, found)
        uploaded, capturing = self._uploaded, self._upload.capturing()
        # NaN is not equal to itself, but a list compares by identity first, and `math.nan` is one object.
        if uploaded is None or host != self._known:
            uploaded = self._upload(torch.tensor(host, dtype=torch.float64, device="cpu"))
            # What is copied in a capture is there only once the graph is replayed.
            if not capturing:
                self._uploaded, self._known = uploaded, host
        self._upload.keep(uploaded)
        numbers = uploaded.view(len(Row), self.count)
        if not found:
            return numbers
        numbers = numbers.clone()
        for values in found.values():
            targets, sources = self._on_device(tuple(values.places), store=not capturing)
            whole = torch.cat([piece.reshape(-1) for piece in values.pieces]).double()
            numbers.view(-1).index_copy_(0, targets, whole.index_select(0, sources))
        return numbers

    def _put(self, start: int, entry: Entry, host: list[float], found: dict[torch.dtype, _Values]) -> None:
        """Write an entry of a row that begins at `start`, or note its tensors and where their values are to go."""
        count, here = self.count, self.device.type
        if isinstance(entry, Tensor):
            if entry.numel() not in (1, count):
                raise ValueError(f"a row has {entry.numel()} numbers; accepted are 1 and {count}")
            if entry.device.type == "cpu" != here:
                values = entry.reshape(-1).tolist()
                host[start : start + count] = values * count if len(values) == 1 else values
            else:
                found.setdefault(entry.dtype, _Values()).add(entry, range(start, start + count), self.device)
        elif isinstance(entry, Sequence):
            if len(entry) != count:
                raise ValueError(f"a row has {len(entry)} numbers; accepted are {count}")
            for place, value in enumerate(entry, start):
                if not isinstance(value, Tensor) or value.device.type == "cpu" != here:
                    host[place] = float(value)
                else:
                    found.setdefault(value.dtype, _Values()).add(value, (place,), self.device)
        else:
            host[start : start + count] = [float(entry)] * count

    def _on_device(self, places: tuple[tuple[int, int], ...], *, store: bool) -> tuple[Tensor, Tensor]:
        """Where values go to and come from, as indices on the device."""
        if places not in self._places:
            targets, sources = zip(*places, strict=True)
            both = self._upload(torch.tensor([targets, sources], dtype=torch.int64, device="cpu"))
            if not store:
                return both[0], both[1]
            self._places[places] = both
        self._upload.keep(self._places[places])
        return self._places[places][0], self._places[places][1]
