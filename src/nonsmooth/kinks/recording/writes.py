"""What a recorded pass writes to: tensors that existed before are kept as they were, and put back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from nonsmooth.kinks.recording.leaves import storage_of
from nonsmooth.kinks.recording.records import tensors_among

HIDDEN_WRITES = {"native_batch_norm": (3, 4), "cudnn_batch_norm": (3, 4), "miopen_batch_norm": (3, 4)}
"""Arguments that are written although the operator's schema does not say so: running statistics."""


@dataclass(frozen=True)
class _Shape:
    """How a tensor lay in memory before it was written: some writes resize it, or give it other memory."""

    tensor: Tensor
    memory: Any
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> _Shape:
        place = int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()
        return cls(tensor, tensor.untyped_storage(), *place)

    def restore(self) -> None:
        now = _Shape.of(self.tensor)
        with torch.no_grad():
            if now.memory._cdata != self.memory._cdata:
                self.tensor.set_(self.memory, self.offset, self.size, self.stride)
            elif (now.offset, now.size, now.stride) != (self.offset, self.size, self.stride):
                self.tensor.as_strided_(self.size, self.stride, self.offset)


class Writes:
    """Which arguments operators write to, and what was there before."""

    def __init__(self) -> None:
        self._positions: dict[Any, tuple[tuple[int, str], ...]] = {}
        self._new: dict[int, StorageWeakRef] = {}
        self._memory: dict[int, tuple[Any, Any]] = {}
        self._shapes: dict[int, _Shape] = {}

    def written(self, func: Any, args: Any, kwargs: Any) -> list[Tensor]:
        """The tensors that a call writes to."""
        positions = self._positions.get(func)
        if positions is None:
            packet = func.overloadpacket.__name__
            positions = self._positions[func] = tuple(
                (position, argument.name)
                for position, argument in enumerate(func._schema.arguments)
                if (argument.alias_info is not None and argument.alias_info.is_write)
                or position in HIDDEN_WRITES.get(packet, ())
            )
        values = (args[position] if position < len(args) else kwargs.get(name) for position, name in positions)
        return list(tensors_among(values))

    def keep(self, tensor: Tensor) -> None:
        """Keep what a tensor holds, if its memory is older than the recording."""
        storage = storage_of(tensor)
        if storage is None or storage in self._new or tensor.device.type == "meta":
            return
        if id(tensor) not in self._shapes:
            self._shapes[id(tensor)] = _Shape.of(tensor)
        if storage not in self._memory:
            memory = tensor.untyped_storage()
            self._memory[storage] = (memory, memory.clone())  # type: ignore[no-untyped-call]

    def remember(self, outputs: Iterable[Tensor], arguments: list[Tensor]) -> None:
        """Memory that a call returns, and that none of its arguments lies in, is new."""
        old = {storage_of(argument) for argument in arguments}
        for output in outputs:
            storage = storage_of(output)
            if storage is not None and storage not in old and storage not in self._new and storage not in self._memory:
                self._new[storage] = weak(output)

    def restore(self) -> None:
        """Put everything back; a tensor that cannot be does not keep the others from it.

        Raises:
            RuntimeError: one could not be put back.
        """
        attempts: list[Callable[[], None]] = [partial(_refill, *kept) for kept in self._memory.values()]
        attempts += [shape.restore for shape in self._shapes.values()]
        failures = [error for error in map(_failure, attempts) if error is not None]
        self._memory.clear()
        self._shapes.clear()
        if failures:
            raise failures[0]


def _refill(memory: Any, kept: Any) -> None:
    if memory.nbytes() != kept.nbytes():
        memory.resize_(kept.nbytes())
    memory.copy_(kept)


def _failure(attempt: Callable[[], None]) -> RuntimeError | None:
    try:
        attempt()
    except RuntimeError as error:
        return error
    return None


def weak(tensor: Tensor) -> StorageWeakRef:
    """A reference that keeps the address of a tensor's storage, as an object, from being used again."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
