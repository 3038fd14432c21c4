"""Small arrays of the host on a device, without making the host wait."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

SPARE = 1 << 16
"""Bytes of page-locked memory that lie ready for copies in a capture, and more where arrays are larger."""


class Upload:
    """Copies arrays to a device through page-locked memory.

    A graph that has captured a copy reads the page-locked memory anew at each replay, and programs that it has captured
    read the copy: what was copied or used during a capture is kept as long as this object. Page-locked memory cannot
    always be had during a capture, so some of it lies ready.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._spare = torch.empty(0, dtype=torch.uint8, device="cpu")
        self._kept: list[Tensor] = []

    def capturing(self) -> bool:
        """Whether what the device is given to do is being captured in a graph."""
        if self.device.type == "cpu":
            return False
        module = torch.get_device_module(self.device)
        return bool(getattr(module, "is_current_stream_capturing", lambda: False)())

    def keep(self, *tensors: Tensor) -> None:
        """Keep copies that a graph uses, if one is being captured; they are never written to again."""
        if self.capturing():
            self._kept += tensors

    def on_device(self) -> AbstractContextManager[Any]:
        """Makes the device the current one, on which Triton launches."""
        return nullcontext() if self.device.type == "cpu" else torch.get_device_module(self.device).device(self.device)

    def __call__(self, values: Tensor) -> Tensor:
        """A copy on the device; on the host, the values themselves.

        Args:
            values: on the host, contiguous; not to be written to afterwards.
        """
        if self.device.type == "cpu":
            return values
        capturing, size = self.capturing(), values.numel() * values.element_size()
        aligned = -(-size // 16) * 16
        if capturing and self._spare.numel() >= aligned:
            locked, self._spare = self._spare[:size], self._spare[aligned:]
        else:
            # Torch gives page-locked memory out again only after the copies from it.
            locked = torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=True)
        staged = locked.view(values.dtype).view(values.shape).copy_(values)
        there = staged.to(self.device, non_blocking=True)
        if capturing:
            self._kept += [locked, there]
        elif self._spare.numel() < max(SPARE, 4 * aligned):
            self._spare = torch.empty(max(SPARE, 4 * aligned), dtype=torch.uint8, device="cpu", pin_memory=True)
        return there
