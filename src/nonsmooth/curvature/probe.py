"""The loss and the gradient of a closure at given parameters, as often as needed; all else stays as it was."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.curvature.attention import PlainAttention
from nonsmooth.curvature.conditions import MODES, EvaluationConditions

Closure = Callable[[], Any]
"""Computes the loss on the data that is meant, a tensor of one element, and does not call backward."""


ERROR, REENTRANT = "Error", "CheckpointFunctionBackward"
"""Nodes of a graph: one that stands for an error, and one that runs a graph of its own in its backward pass."""
REPEATS = 1e3
"""Times the precision: how far a loss that is computed again may be off, as where a GPU adds in another order."""


class RefusedError(RuntimeError):
    """A graph of the gradient cannot be had; the message says why."""


class Probe:
    """A closure and the parameters with respect to which it is differentiated.

    Vectors over all parameters are flat, in the order of `parameters`, in float32 or, where a parameter is, in
    float64, on the device of the first one.

    Args:
        closure: computes the loss and returns it.
        parameters: leaves of the graph; those that do not require a gradient are left out, duplicates
            count once.
        model: whose modes and buffers are meant, which has to be said of a compiled one; None for those of all modules
            that the closure calls.
        mode: "train", "eval" or "current" (each module as it is); needed where modules such as batch normalisation or
            dropout compute different things in training and in evaluation.

    Raises:
        TypeError: the closure cannot be called, or a parameter is not a whole, real, floating-point leaf.
        ValueError: the mode is unknown, or no parameter requires a gradient.

    Attributes:
        unused: the numbers of the parameters, counted from 0 among `parameters`, that the loss was not computed from.
    """

    def __init__(
        self,
        closure: Closure,
        parameters: Iterable[Tensor],
        *,
        model: nn.Module | None = None,
        mode: str | None = None,
    ) -> None:
        if not callable(closure):
            raise TypeError(f"closure is {closure!r}; accepted is a function that computes the loss")
        if mode is not None and mode not in MODES:
            raise ValueError(f"mode is {mode!r}; accepted are {', '.join(map(repr, MODES))}, or None")
        self.closure, self.mode = closure, mode
        self.parameters = _checked(parameters)
        self.size = sum(parameter.numel() for parameter in self.parameters)
        self.device = self.parameters[0].device
        wide = any(parameter.dtype == torch.float64 for parameter in self.parameters)
        self.dtype = torch.float64 if wide else torch.float32
        self._state = EvaluationConditions(self.parameters, model, mode)
        self._seen = False

        self.unused: tuple[int, ...] = ()

    @property
    def precision(self) -> float:
        """The relative rounding error of the coarsest parameter, or of the coarsest numbers that were seen."""
        return self._state.precision

    @contextmanager
    def preserve_state(self) -> Iterator[None]:
        """A block for evaluations, after which everything but the weights is as before."""
        with self._state.kept():
            yield

    def loss(self) -> float:
        """The loss alone; a closure that calls backward still does."""
        return float(self._loss().detach())

    def check_repeats(self, loss: float) -> None:
        """Raise a ValueError if the loss at the same weights is another one now, as it is on other data."""
        again = self.loss()
        differ = math.isfinite(again) != math.isfinite(loss)
        if differ or abs(again - loss) > min(REPEATS * self.precision, 0.05) * max(abs(again), abs(loss)):
            raise ValueError(
                f"closure returned {loss:.6g} and then {again:.6g} at the same weights; accepted is one that computes "
                "the same loss each time: draw the batch outside of it"
            )

    def gradient(self) -> tuple[float, Tensor]:
        """The loss and its gradient, without a graph."""
        loss = self._loss()
        parts: Sequence[Tensor | None] | None = self._gradients_of_backward()
        if parts is None and _holds(loss, REENTRANT):
            loss.backward()  # type: ignore[no-untyped-call]
            parts = self._gradients_of_backward() or [None] * len(self.parameters)
        if parts is None:
            parts = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        self._note_use(parts)
        return float(loss.detach()), self.averaged(self.flat(parts))

    def graph_of_gradient(self) -> tuple[float, list[Tensor | None], list[Any]]:
        """The loss and its gradient by parameter, with the graph by which to differentiate it again, and its nodes.

        Raises:
            RefusedError: autograd has none.
        """
        # Fused attention has no second derivative; the plain one computes the same in steps that have.
        with PlainAttention():
            loss = self._loss()
            if self._gradients_of_backward() is not None:
                raise RefusedError("the closure calls backward itself")
            if _holds(loss, REENTRANT):
                raise RefusedError("the closure uses a reentrant checkpoint, whose parameters only backward() reaches")
            # A slope that requires a gradient: functions that are marked as once differentiable say so only then.
            slope = torch.ones_like(loss, requires_grad=True)
            try:
                parts = torch.autograd.grad(loss, self.parameters, slope, allow_unused=True, create_graph=True)
            except RuntimeError as error:
                raise refusal(error) from None
        # A node that stands for an error raises when it is reached; but it hides what lies behind it, so that autograd
        # finds no way from the gradient to the weights, and takes the derivative for zero.
        if any(part is not None and _holds(part, ERROR) for part in parts):
            raise RefusedError("a function is marked with once_differentiable")
        self._note_use(parts)
        nodes = nodes_of([loss, *(part for part in parts if part is not None)])
        return float(loss.detach()), list(parts), nodes

    def flat(self, parts: Sequence[Tensor | None]) -> Tensor:
        """One vector of a tensor for each parameter; None counts as zeros."""
        vector = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for piece, part in zip(self._pieces(vector), parts, strict=True):
            if part is not None:
                piece.copy_((part.to_dense() if part.is_sparse else part).detach())
        return vector

    def split(self, vector: Tensor) -> list[Tensor]:
        """The parts of a flat vector, each like its parameter."""
        pieces = self._pieces(vector)
        return [piece.to(p.device, p.dtype) for piece, p in zip(pieces, self.parameters, strict=True)]

    def weights(self) -> Tensor:
        """The parameters as one vector."""
        return self.flat([parameter.detach() for parameter in self.parameters])

    @contextmanager
    def moved(self, change: Tensor) -> Iterator[None]:
        """A block in which the weights are others; the tensors that hold them are not written to."""
        kept = [parameter.data for parameter in self.parameters]
        try:
            for parameter, data, part in zip(self.parameters, kept, self._pieces(change), strict=True):
                # Added in the wider type: half precision would round the sum twice.
                parameter.data = (data.to(self.dtype) + part.to(data.device)).to(data.dtype)
            yield
        finally:
            for parameter, data in zip(self.parameters, kept, strict=True):
                parameter.data = data

    def averaged(self, vector: Tensor) -> Tensor:
        """The mean over the processes of a DistributedDataParallel, as in its own backward pass."""
        group = self._state.process_group
        if group is not None:
            torch.distributed.all_reduce(vector, group=group)
            vector /= torch.distributed.get_world_size(group)
        return vector

    def _pieces(self, vector: Tensor) -> list[Tensor]:
        pieces = torch.split(vector, [parameter.numel() for parameter in self.parameters])
        return [piece.view(parameter.shape) for piece, parameter in zip(pieces, self.parameters, strict=True)]

    def _loss(self) -> Tensor:
        loss = self._state.evaluate(self.closure, first=not self._seen)
        self._seen = True
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            raise ValueError(f"closure returned {found}; accepted is the loss, a tensor of one element")
        if not loss.requires_grad:
            raise ValueError("closure returned a loss that depends on no parameter that requires a gradient")
        return loss

    def _note_use(self, parts: Sequence[Tensor | None]) -> None:
        self.unused = tuple(index for index, part in enumerate(parts) if part is None)
        if len(self.unused) == len(self.parameters):
            shapes = ", ".join(str(tuple(parameter.shape)) for parameter in self.parameters[:3])
            more = ", …" if len(self.parameters) > 3 else ""
            raise ValueError(
                f"parameters hold {len(self.parameters)} that require a gradient, of shapes {shapes}{more}, and "
                "closure uses none of them; accepted are those that its loss is computed from"
            )

    def _gradients_of_backward(self) -> list[Tensor | None] | None:
        """What a closure left in `.grad`, if it called backward."""
        gradients = [parameter.grad for parameter in self.parameters]
        return None if all(gradient is None for gradient in gradients) else gradients


def _holds(result: Tensor, name: str) -> bool:
    """Whether the graph of a result has a node of a name."""
    return any(type(node).__name__ == name for node in nodes_of([result]))


def nodes_of(results: Sequence[Tensor]) -> list[Any]:
    """The nodes of the graphs of results, those that were made last first."""
    waiting, seen = [result.grad_fn for result in results], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
    return sorted(seen, key=lambda node: -int(node._sequence_nr()))


def refusal(error: RuntimeError) -> RefusedError:
    """The refusal that an error of autograd means; other errors are raised."""
    if isinstance(error, torch.OutOfMemoryError):
        raise error
    # The text alone: the traceback would keep the graph alive.
    return RefusedError(str(error).splitlines()[0] if str(error) else type(error).__name__)


def _checked(parameters: Iterable[Tensor]) -> list[Tensor]:
    if isinstance(parameters, nn.Module):
        raise TypeError(f"parameters is a {type(parameters).__name__}; accepted are tensors, as from its parameters()")
    if isinstance(parameters, Tensor):
        raise TypeError("parameters is a tensor; accepted is a list of them, such as list(model.parameters())")
    chosen = list({id(parameter): parameter for parameter in parameters}.values())
    for parameter in chosen:
        if not isinstance(parameter, Tensor):
            raise TypeError(f"parameters hold a {type(parameter).__name__}; accepted are tensors")
        if not parameter.is_leaf:
            raise TypeError(
                f"parameters hold a result of {parameter.grad_fn}; accepted are tensors that are leaves of the graph"
            )
    chosen = [parameter for parameter in chosen if parameter.requires_grad]
    for parameter in chosen:
        if hasattr(parameter, "device_mesh"):
            raise TypeError("parameters hold a DTensor; accepted are whole tensors, as under DistributedDataParallel")
        if not parameter.is_floating_point():
            raise TypeError(f"parameters hold a tensor of {parameter.dtype}; accepted are real floating-point ones")
    if not sum(parameter.numel() for parameter in chosen):
        raise ValueError("parameters hold no entry that requires a gradient; accepted is at least one")
    return chosen
