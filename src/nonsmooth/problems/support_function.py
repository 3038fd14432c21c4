"""Support functions of polytopes: the piecewise linear functions on which constant steps look the same at any scale."""

from __future__ import annotations

import torch
from torch import Tensor

from nonsmooth.problems.problem import Evaluation, Problem


class SupportFunction(Problem):
    """f(x) = maxᵢ aᵢ·x, the support function of the polytope with vertices aᵢ.

    It is convex, its subgradients are points of the polytope, and its minimum is 0, at 0, if the polytope contains 0.
    Since f(cx) = c·f(x), a constant step size α only sets the scale: the gaps of all runs are multiples of α. Of
    several largest terms the first gives the subgradient.

    Args:
        vertices: aᵢ, shape (instances, vertices, features).

    Raises:
        ValueError: another number of dimensions.
    """

    def __init__(self, vertices: Tensor) -> None:
        if vertices.ndim != 3:
            raise ValueError(f"vertices has shape {tuple(vertices.shape)}; accepted is (instances, vertices, features)")
        self.vertices = vertices.contiguous()

    @property
    def instances(self) -> int:
        """Number of polytopes."""
        return self.vertices.shape[0]

    @property
    def features(self) -> int:
        """Dimension of the space."""
        return self.vertices.shape[2]

    @property
    def bytes_per_instance(self) -> int:
        """Size of one list of vertices."""
        return self.vertices[0].nbytes

    def select(self, instances: slice) -> SupportFunction:
        """The functions of some of the polytopes."""
        return SupportFunction(self.vertices[instances])

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and subgradient: the largest product, and the vertex that gives it."""
        products = torch.matmul(point, self.vertices.mT)
        value, index = products.max(-1)
        vertices = self.vertices.expand(point.shape[0], -1, -1)
        gradient = vertices.gather(1, index.unsqueeze(-1).expand(-1, -1, self.features))
        return Evaluation(value, gradient, gradient)

    @property
    def lipschitz(self) -> Tensor | None:
        """The largest Euclidean norm of a vertex, exactly."""
        largest: Tensor = torch.linalg.vector_norm(self.vertices, dim=-1).amax(-1, keepdim=True)
        return largest
