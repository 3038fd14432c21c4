"""Small arrays of the host on a device, without making the host wait."""

from __future__ import annotations

import torch
from torch import Tensor


class Upload:
    """Copies arrays to a device through page-locked memory.

    A graph that has captured a copy reads the page-locked memory anew at each replay, and programs that it has captured
    read the copy: what was copied during a capture is kept as long as this object. Page-locked memory cannot always be
    had during a capture, so a piece lies ready.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._ready: Tensor | None = None
        self._kept: list[Tensor] = []

    def capturing(self) -> bool:
        """Whether what the device is given to do is being captured in a graph."""
        if self.device.type == "cpu":
            return False
        module = torch.get_device_module(self.device)
        return bool(getattr(module, "is_current_stream_capturing", lambda: False)())

    def __call__(self, values: Tensor) -> Tensor:
        """A copy on the device; on the host, the values themselves.

        Args:
            values: on the host, contiguous; not to be written to afterwards.
        """
        if self.device.type == "cpu":
            return values
        capturing, size = self.capturing(), values.numel() * values.element_size()
        # Torch gives page-locked memory out again only after the copies from it.
        fits = capturing and self._ready is not None and self._ready.numel() >= size
        locked = self._ready if fits else torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=True)
        assert locked is not None
        staged = locked[:size].view(values.dtype).view(values.shape).copy_(values)
        there = staged.to(self.device, non_blocking=True)
        if capturing:
            self._kept += [locked, there]
            self._ready = None
        elif self._ready is None or self._ready.numel() < size:
            self._ready = torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=True)
        return there
