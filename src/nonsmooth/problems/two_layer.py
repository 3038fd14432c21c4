"""Networks with one hidden layer, one a seed and all at once, by autograd: to train to a minimum and look around."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nonsmooth.problems.convexity import unit

Activation = Callable[[Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) → the loss of each sample, shape (seeds, samples)."""


class TwoLayer:
    """f(w) = mean loss(V a(Wx + b) + c, y) + (decay/2)‖w‖² for each seed; w holds W, b, V and c, in this order.

    Args:
        inputs: x, shape (seeds, samples, inputs).
        targets: y, shape (seeds, samples).
        hidden: number of hidden units.
        outputs: number of outputs.
        activation: a.
        loss: of outputs and targets.
        decay: ≥ 0, of all weights.
    """

    def __init__(
        self,
        inputs: Tensor,
        targets: Tensor,
        hidden: int,
        outputs: int,
        activation: Activation,
        loss: Loss,
        decay: float = 0.0,
    ) -> None:
        self.inputs, self.targets, self.activation, self.loss, self.decay = inputs, targets, activation, loss, decay
        self._shape = inputs.shape[-1], hidden, outputs

    @property
    def sizes(self) -> list[int]:
        """Of W, b, V and c."""
        inputs, hidden, outputs = self._shape
        return [inputs * hidden, hidden, hidden * outputs, outputs]

    def start(self, seeds: range) -> Tensor:
        """Weights N(0, 1/fan-in), biases 0: shape (seeds, weights)."""
        drawn = []
        for seed in seeds:
            # The other half of the generator's 32 bits: no start repeats the numbers of data with the same seed.
            generator = torch.Generator().manual_seed((1 << 31) + seed)
            parts = [torch.randn(size, generator=generator, dtype=torch.float64) for size in self.sizes]
            fans = (self._shape[0] ** -0.5, 0.0, self._shape[1] ** -0.5, 0.0)
            drawn.append(torch.cat([part * fan for part, fan in zip(parts, fans, strict=True)]))
        return torch.stack(drawn)

    def scaled_like(self, weights: Tensor, like: Tensor) -> Tensor:
        """The weights, with W, b, V and c scaled to the lengths that those of `like` have."""
        pairs = zip(torch.split(weights, self.sizes, dim=1), torch.split(like, self.sizes, dim=1), strict=True)
        lengths = ((part, part.norm(dim=1, keepdim=True), other.norm(dim=1, keepdim=True)) for part, other in pairs)
        return torch.cat([part * wanted / length.clamp(min=1e-300) for part, length, wanted in lengths], dim=1)

    def preactivation(self, weights: Tensor) -> Tensor:
        """Wx + b, shape (seeds, samples, hidden)."""
        first, bias, _, _ = torch.split(weights, self.sizes, dim=1)
        return self.inputs @ first.view(len(weights), self._shape[1], -1).mT + bias.unsqueeze(1)

    def outputs(self, weights: Tensor) -> Tensor:
        """V a(Wx + b) + c, shape (seeds, samples, outputs)."""
        _, _, second, bias = torch.split(weights, self.sizes, dim=1)
        hidden = self.activation(self.preactivation(weights))
        return hidden @ second.view(len(weights), self._shape[2], -1).mT + bias.unsqueeze(1)

    def value(self, weights: Tensor) -> Tensor:
        """F, shape (seeds,)."""
        mean = self.loss(self.outputs(weights), self.targets).mean(-1)
        return mean + self.decay / 2 * weights.square().sum(-1) if self.decay else mean

    def gradient(self, weights: Tensor) -> Tensor:
        """∇f where it exists, by autograd, shape (seeds, weights)."""
        leaf = weights.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.value(leaf).sum(), leaf)
        return gradient

    def hessian_product(self, weights: Tensor, vector: Tensor) -> Tensor:
        """Hv of each seed by double backward, which sees no kinks."""
        leaf = weights.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.value(leaf).sum(), leaf, create_graph=True)
        (product,) = torch.autograd.grad(gradient, leaf, vector)
        return product

    def slope_jump(self, weights: Tensor, displacement: float = 1e-7, directions: int = 10) -> Tensor:
        """How much the slope along a random unit vector changes across the point, the median of ten: shape (seeds,).

        Where f is twice differentiable it is twice the displacement times the curvature.
        """
        generator, jumps = torch.Generator().manual_seed(0), []
        for _ in range(directions):
            direction = unit(torch.randn(weights.shape[1], generator=generator, dtype=torch.float64))
            ends = (self.gradient(weights + side * displacement * direction) for side in (1, -1))
            jumps.append((next(ends) - next(ends)) @ direction)
        return torch.stack(jumps).abs().median(0).values

    def differences(
        self, weights: Tensor, directions: Sequence[Tensor], lengths: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        """Second-order differences of f and of its gradient along unit vectors u.

        They are (f(w+εu) - 2f(w) + f(w-εu))/ε² and ⟨∇f(w+εu) - ∇f(w-εu), u⟩/2ε.

        Args:
            weights: w, shape (seeds, weights).
            directions: u, each of that shape.
            lengths: ε.

        Returns:
            Both, shape (lengths, directions, seeds).
        """
        value, of_loss, of_gradient = self.value(weights), [], []
        for epsilon in lengths:
            for u in directions:
                ahead, behind = weights + epsilon * u, weights - epsilon * u
                of_loss.append((self.value(ahead) - 2 * value + self.value(behind)) / epsilon**2)
                of_gradient.append(((self.gradient(ahead) - self.gradient(behind)) * u).sum(-1) / (2 * epsilon))
        shape = len(lengths), len(directions), -1
        return torch.stack(of_loss).view(shape), torch.stack(of_gradient).view(shape)

    def nearest_kink(self, weights: Tensor) -> Tensor:
        """The smallest |pre-activation| over the median one, shape (seeds,)."""
        size = self.preactivation(weights).abs().flatten(1)
        return size.min(1).values / size.median(1).values

    def minimize(
        self, weights: Tensor, steps: int, lr: float, progress: Callable[[float], None] = lambda _: None
    ) -> tuple[Tensor, Tensor]:
        """Adam, half of the steps at a constant rate and then at one that falls by ten decades.

        Steps that shrink geometrically come to rest also where the gradient does not vanish, at a kink. Whether it is
        a minimum is told by the mean gradient of the last fifth of the steps, during which the weights stand all but
        still: it is 0 in the hull of the gradients around a (Clarke) stationary point.

        Returns:
            The weights, and the length of that mean gradient, shape (seeds,).
        """
        point = torch.nn.Parameter(weights.clone())
        optimizer = torch.optim.Adam([point], lr=lr, betas=(0.9, 0.99), eps=1e-12)
        total, count = torch.zeros_like(weights), 0
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * 10 ** (-10 * max(0.0, 2 * step / steps - 1))
            point.grad = self.gradient(point)
            optimizer.step()
            if step >= 0.8 * steps:
                total, count = total + point.grad, count + 1
            if step % 100 == 0:
                progress(step / steps)
        return point.detach(), torch.linalg.vector_norm(total / count, dim=-1)
