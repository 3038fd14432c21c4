"""Products of the Hessian of a closure's loss with vectors, from one graph; by differences where there is none.

A product is the derivative of ⟨∇f, v⟩ (Pearlmutter 1994). Fused attention is computed by its plain twin meanwhile;
where autograd refuses the second derivative (compiled models, cuDNN's recurrent layers, functions marked
as once differentiable, closures that call backward), a product is a central difference of gradients, and the record
says so. On functions with kinks the two are different quantities: autograd's Hessian does not see kinks, differences
do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nonsmooth.curvature.probe import Closure, Probe, RefusedError, refusal

DOUBLE_BACKWARD, DIFFERENCES = "double backward", "finite differences"
METHODS = (DOUBLE_BACKWARD, DIFFERENCES)


class HessianOperator:
    """H = ∇²f at the present weights, inside `hessian_operator`.

    Attributes:
        loss: f.
        gradient: ∇f, flat.
        size: number of coordinates.
        dtype: of the vectors, float32 or float64.
        device: of the vectors.
        method: "double backward" or "finite differences".
        reason: why differences were taken where autograd was asked; None elsewhere.
        products: how many were computed.
    """

    def __init__(self, probe: Probe, method: str | None) -> None:
        self._probe = probe
        self.size, self.dtype, self.device = probe.size, probe.dtype, probe.device
        self.method, self.products, self._asked = method or DOUBLE_BACKWARD, 0, method
        self.reason: str | None = None
        self._shortening, self._over = 1.0, False
        self._versions = [parameter._version for parameter in probe.parameters]
        self._graph: list[Tensor | None] | None = None
        self._nodes: list[Any] = []
        if self.method == DOUBLE_BACKWARD:
            try:
                self.loss, self._graph, self._nodes = probe.graph_of_gradient()
                self.gradient = probe.averaged(probe.flat(self._graph))
            except RefusedError as error:
                self._fall_back(error)
        if self.method == DIFFERENCES:
            self.loss, self.gradient = probe.gradient()

    @property
    def unused(self) -> tuple[int, ...]:
        """The numbers of the parameters that the loss is not computed from; H is 0 there."""
        return self._probe.unused

    @property
    def precision(self) -> float:
        """The relative rounding error of what was computed."""
        return self._probe.precision

    @property
    def step(self) -> float:
        """ε of a central difference, along a unit vector.

        A quarter of ∛(rounding), which balances rounding and truncation for functions that change over distances of
        1, and no less than what the rounding of the weights themselves leaves of it.
        """
        precision = self.precision
        length = max(float(precision ** (1 / 3)) / 4, 2 * precision * float(self._probe.weights().norm()))
        return length / self._shortening

    def product(self, vector: Tensor) -> Tensor:
        """Hv for a flat v, as a flat vector; under DistributedDataParallel the mean over processes.

        Raises:
            TypeError: the vector is no tensor.
            ValueError: it has another shape.
            RuntimeError: the block of `hessian_operator` is over, or the weights have been changed in it.
        """
        if self._over:
            raise RuntimeError("the block of hessian_operator has ended, and its graph was freed")
        if [parameter._version for parameter in self._probe.parameters] != self._versions:
            raise RuntimeError(
                "weights changed inside the block of hessian_operator; open a new block after each change"
            )
        if not isinstance(vector, Tensor):
            raise TypeError(f"vector is a {type(vector).__name__}; accepted is a tensor of ({self.size},)")
        if vector.shape != (self.size,):
            raise ValueError(f"vector has shape {tuple(vector.shape)}; accepted is ({self.size},)")
        self.products += 1
        if self.method == DOUBLE_BACKWARD:
            try:
                return self._probe.averaged(self._differentiated(vector))
            except RefusedError as error:
                self._fall_back(error)
        return self._difference(vector)

    @contextmanager
    def shortened(self, factor: float) -> Iterator[None]:
        """A block in which the ε of differences is that much shorter, to see what depends on it."""
        before = self._shortening
        self._shortening = factor
        try:
            yield
        finally:
            self._shortening = before

    def check_repeats(self) -> None:
        """Raise a ValueError if the loss at the same weights is another one now: so would the differences be."""
        self._probe.check_repeats(self.loss)

    def refuse(self, reason: str) -> None:
        """Go over to differences, because what double backward gave cannot be right.

        Raises:
            RuntimeError: double backward was asked for.
        """
        self._fall_back(RefusedError(reason))

    def flat(self, parts: Tensor | Sequence[Tensor]) -> Tensor:
        """One vector of a tensor for each parameter, in the order of the parameters; a flat one as it is.

        Raises:
            ValueError: their shapes are not those of the parameters that require a gradient.
        """
        if isinstance(parts, Tensor):
            if parts.shape != (self.size,):
                raise ValueError(f"the vector has shape {tuple(parts.shape)}; accepted is ({self.size},)")
            return parts.detach().to(self.device, self.dtype)
        shapes, expected = [part.shape for part in parts], [p.shape for p in self._probe.parameters]
        if shapes != expected:
            raise ValueError(f"the tensors have shapes {[*map(tuple, shapes)]}; accepted are {[*map(tuple, expected)]}")
        return self._probe.flat(parts)

    def split(self, vector: Tensor) -> list[Tensor]:
        """The parts of a flat vector, each like its parameter."""
        return self._probe.split(vector)

    def release(self) -> None:
        """Let the graph go; there are no products any more."""
        self._free()
        self._over = True

    def _free(self) -> None:
        """Free the graph node by node: PyTorch's way down a deep one, that Python has seen, can overflow the stack."""
        self._graph = None
        for index in range(len(self._nodes)):
            self._nodes[index] = None
        self._nodes = []

    def _differentiated(self, vector: Tensor) -> Tensor:
        pairs = zip(self._graph or (), self._probe.split(vector), strict=True)
        used = [(gradient, part) for gradient, part in pairs if gradient is not None]
        try:
            parts = torch.autograd.grad(
                [gradient for gradient, _ in used],
                self._probe.parameters,
                [part for _, part in used],
                retain_graph=True,
                allow_unused=True,
            )
        except RuntimeError as error:
            raise refusal(error) from None
        return self._probe.flat(parts)

    def _difference(self, vector: Tensor) -> Tensor:
        length = vector.norm()
        if length == 0:
            return torch.zeros_like(vector)
        return gradient_difference(self._probe, vector / length, self.step).mul_(length)

    def _fall_back(self, error: RefusedError) -> None:
        if self._asked == DOUBLE_BACKWARD:
            raise RuntimeError(f"method is {self._asked!r}, which autograd refuses here: {error}") from None
        self._free()
        self.method, self.reason = DIFFERENCES, str(error)


def gradient_difference(probe: Probe, direction: Tensor, step: float) -> Tensor:
    """(∇f(w + εu) - ∇f(w - εu))/2ε, without a graph."""
    with probe.moved(direction * step):
        ahead = probe.gradient()[1]
    with probe.moved(direction * -step):
        behind = probe.gradient()[1]
    return (ahead - behind) / (2 * step)


@contextmanager
def hessian_operator(
    closure: Closure,
    parameters: Iterable[Tensor],
    *,
    model: nn.Module | None = None,
    mode: str | None = None,
    method: str | None = None,
) -> Iterator[HessianOperator]:
    """Hessian-vector products at the present weights, for the length of a block.

    The closure runs once, and all products use its graph. The run is left as it was: random number generators,
    `.grad`, the modes, attributes and buffers of the modules, autocast; no graph stays after the block. Not restored
    are the closure's own generators, buffers that it hands to functions without a module and, if it calls backward,
    `.grad` of leaves that are neither in a module nor among `parameters`.

    Args:
        closure: computes the loss on the data that is meant and returns it, without calling backward.
        parameters: with respect to which; those that require no gradient are left out.
        model: whose modes and buffers are meant; needed only where the model is compiled.
        mode: "train", "eval" or "current"; needed where modules compute different things in training and evaluation.
        method: "double backward", "finite differences", or None for the first where autograd can and the second where
            it cannot.

    Yields:
        The operator.

    Raises:
        TypeError: the closure cannot be called, or a parameter is not a whole, real, floating-point leaf.
        ValueError: a mode or a method is unknown or missing, or the loss is not a number that depends on a parameter.
        RuntimeError: double backward was asked for and autograd refuses it.
    """
    if method is not None and method not in METHODS:
        raise ValueError(f"method is {method!r}; accepted are {', '.join(map(repr, METHODS))}, or None")
    probe = Probe(closure, parameters, model=model, mode=mode)
    with probe.preserve_state():
        operator = HessianOperator(probe, method)
        try:
            yield operator
        finally:
            operator.release()
