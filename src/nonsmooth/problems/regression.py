"""Penalised single-layer regression: eq. (3), (7), (11) and (13) of the paper are its special cases.

    f(β) = scale · Σᵢ loss(yᵢ - link(zᵢ·β)) + λ₁‖β‖₁ + λ₂‖β‖₂²

zᵢ is the i-th *row* of Z (the paper's text says column; its dimensions say row).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nonsmooth.problems.links import Identity, Link, Relu
from nonsmooth.problems.losses import Huber, Loss, Squared
from nonsmooth.problems.problem import Evaluation, Problem


class Regression(Problem):
    """A batch of penalised regressions that share their shape.

    Args:
        data: Z, shape (instances, samples, features).
        response: y, shape (instances, samples).
        l1: λ₁ ≥ 0, a number or a tensor that broadcasts to (instances, variants).
        l2: λ₂ ≥ 0, likewise.
        link: what is applied to Zβ.
        loss: what is applied to each residual.
        scale: what the sum of losses is multiplied by: 1 in eq. (3), 1/N in eq. (11) and (13).
        sign_at_zero: the subgradient of |b| used at b = 0, in [-1, 1]; PyTorch's is 0.

    Raises:
        TypeError: `data` or `response` is not a tensor.
        ValueError: shapes that do not fit, entries that are not finite, a negative or infinite penalty, a `scale` that
            is not positive, or a `sign_at_zero` outside [-1, 1].
    """

    def __init__(
        self,
        data: Tensor,
        response: Tensor,
        *,
        l1: float | Tensor = 0.0,
        l2: float | Tensor = 0.0,
        link: Link | None = None,
        loss: Loss | None = None,
        scale: float = 1.0,
        sign_at_zero: float = 0.0,
    ) -> None:
        for name, given in (("data", data), ("response", response)):
            if not isinstance(given, Tensor):
                raise TypeError(f"{name} is a {type(given).__name__}; accepted is a torch tensor")
            if not bool(torch.isfinite(given).all()):
                raise ValueError(f"{name} has entries that are not finite; accepted are finite numbers")
        if data.ndim != 3 or 0 in data.shape:
            raise ValueError(f"data has shape {tuple(data.shape)}; accepted is (instances, samples, features), none 0")
        if response.shape != data.shape[:2]:
            raise ValueError(f"response has shape {tuple(response.shape)}; data asks for {tuple(data.shape[:2])}")
        if not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"scale is {scale}; accepted is a positive finite number")
        if not -1.0 <= sign_at_zero <= 1.0:
            raise ValueError(f"sign_at_zero is {sign_at_zero}; accepted is a number in [-1, 1]")
        self.data = data.contiguous()
        self.response = response
        self.l1 = _strength("l1", l1, data)
        self.l2 = _strength("l2", l2, data)
        self.link = Identity() if link is None else link
        self.loss = Squared() if loss is None else loss
        self.scale = scale
        self.sign_at_zero = sign_at_zero
        # Which terms exist is decided once: the recursion runs `evaluate` millions of times.
        self._has_l1 = bool((self.l1 > 0).any())
        self._has_l2 = bool((self.l2 > 0).any())

    @property
    def instances(self) -> int:
        """Number of data sets."""
        return self.data.shape[0]

    @property
    def samples(self) -> int:
        """N."""
        return self.data.shape[1]

    @property
    def features(self) -> int:
        """P."""
        return self.data.shape[2]

    @property
    def bytes_per_instance(self) -> int:
        """Size of one Z."""
        return self.data[0].nbytes

    def select(self, instances: slice) -> Regression:
        """The regressions of some of the instances; data are views, not copies."""
        return Regression(
            self.data[instances],
            self.response[instances],
            l1=self.l1[instances] if self.l1.shape[0] > 1 else self.l1,
            l2=self.l2[instances] if self.l2.shape[0] > 1 else self.l2,
            link=self.link,
            loss=self.loss,
            scale=self.scale,
            sign_at_zero=self.sign_at_zero,
        )

    def evaluate(self, point: Tensor) -> Evaluation:
        """Value and subgradient, with two products by Z."""
        preactivation = torch.matmul(point, self.data.mT)
        residual = self.response.unsqueeze(1) - self.link.value(preactivation)
        value = self.loss.value(residual).sum(-1)
        # The sign of d(residual)/d(prediction) and the scale go onto N numbers instead of P.
        slope = self.loss.slope(residual) * -self.scale
        if not isinstance(self.link, Identity):
            slope *= self.link.slope(preactivation)
        gradient = torch.matmul(slope, self.data)
        if self.scale != 1.0:
            value = value * self.scale
        if self._has_l2:
            value = value + self.l2 * point.square().sum(-1)
            gradient = torch.addcmul(gradient, point, 2 * self.l2.unsqueeze(-1))
        if not self._has_l1:
            return Evaluation(value, gradient, gradient, preactivation)
        value = value + self.l1 * point.abs().sum(-1)
        subgradient = gradient + self.l1.unsqueeze(-1) * self.sign(point)
        return Evaluation(value, gradient, subgradient, preactivation)

    def sign(self, point: Tensor) -> Tensor:
        """The subgradient of ‖β‖₁ that the recursion uses, element by element."""
        if self.sign_at_zero == 0.0:
            return torch.sign(point)
        return torch.where(point == 0, self.sign_at_zero, torch.sign(point))

    @property
    def minimizer(self) -> Tensor | None:
        """Known in three cases: y ≤ 0 under a ReLU, y = 0 in a linear model, and interpolation without penalty.

        With y ≤ 0 and link = ReLU each (yᵢ - max(0, ·))² is at least yᵢ², and β = 0 attains it together with the
        minimum of both penalties; so it does for y = 0 in a linear model, eq. (7) among them. With a linear model of
        full row rank and no penalty, β = Z⁺y has no residual.
        """
        unreachable = isinstance(self.link, Relu) and bool((self.response <= 0).all())
        if unreachable or (isinstance(self.link, Identity) and not bool(self.response.any())):
            return self.data.new_zeros(self.instances, 1, self.features)
        if isinstance(self.link, Identity) and not self._has_l1 and not self._has_l2:
            interpolant: Tensor = torch.linalg.pinv(self.data) @ self.response.unsqueeze(-1)
            misfit = (self.data @ interpolant).squeeze(-1) - self.response
            if bool((misfit.abs() <= 1e-9 * (1 + self.response.abs())).all()):
                return interpolant.mT
        return None

    @property
    def lipschitz(self) -> Tensor | None:
        """An upper bound, scale · δ · √N · σ_max(Z) + λ₁√P, for a loss of bounded slope and λ₂ = 0; else None.

        Without data (eq. 7) it is λ₁√P and exact: the paper uses λ₁, which is the constant in the sup norm.
        """
        if self._has_l2:
            return None
        penalty: Tensor = self.l1 * self.features**0.5
        if not bool(self.data.any()):
            return penalty
        if self.loss.slope_bound is None:
            return None
        largest = torch.linalg.matrix_norm(self.data, ord=2).unsqueeze(-1)
        bound: Tensor = self.scale * self.loss.slope_bound * self.samples**0.5 * largest + penalty
        return bound

    @property
    def gradient_lipschitz(self) -> Tensor | None:
        """For a linear model scale · c · σ_max(Z)² + 2λ₂, c the curvature bound of the loss; None where ∇f jumps.

        It is the supremum of ‖∇²f‖, attained wherever every residual lies in the region of full curvature; for a
        squared loss that is everywhere, for Huber at any interpolating point. For a non-linear link, smooth or not,
        nothing is computed and None is returned.
        """
        curvature = self.loss.curvature_bound
        if self._has_l1 or curvature is None or not isinstance(self.link, Identity):
            return None
        largest = torch.linalg.matrix_norm(self.data, ord=2).unsqueeze(-1)
        constant: Tensor = self.scale * curvature * largest.square() + 2 * self.l2
        return constant


def _strength(name: str, strength: float | Tensor, like: Tensor) -> Tensor:
    """A penalty strength as a tensor that broadcasts against (instances, variants)."""
    tensor = torch.as_tensor(strength, dtype=like.dtype, device=like.device)
    while tensor.ndim < 2:
        tensor = tensor.unsqueeze(0)
    if tensor.ndim > 2 or not bool(((tensor >= 0) & torch.isfinite(tensor)).all()):
        accepted = "finite numbers ≥ 0 that broadcast to (instances, variants)"
        raise ValueError(f"{name} is {strength}; accepted are {accepted}")
    return tensor


def relu_regression(
    data: Tensor, response: Tensor, l1: float | Tensor = 0.0, l2: float | Tensor = 0.0, link: Link | None = None
) -> Regression:
    """L₁(β; Z, y, λ₁, λ₂) of eq. (3); with `link`, its smooth twin. L₂ of §2 has λ₁ = 0 and λ₂ = 0.01."""
    return Regression(data, response, l1=l1, l2=l2, link=Relu() if link is None else link)


def l1_norm(features: int, strength: float | Tensor, dtype: torch.dtype = torch.float64) -> Regression:
    """L₃(β) = λ₁‖β‖₁ of eq. (7): one instance without data, variants by `strength`."""
    if features < 1:
        raise ValueError(f"features is {features}; accepted is a number of at least 1")
    return Regression(torch.zeros(1, 1, features, dtype=dtype), torch.zeros(1, 1, dtype=dtype), l1=strength)


def lasso(data: Tensor, response: Tensor, l1: float | Tensor) -> Regression:
    """L₄(β; W, y, λ₁) = ‖y - Wβ‖²/N + λ₁‖β‖₁ of eq. (11)."""
    return Regression(data, response, l1=l1, scale=1 / data.shape[-2])


def huber_regression(data: Tensor, response: Tensor, delta: float = 1.0) -> Regression:
    """L₇(β) of eq. (13), the mean Huber loss of a linear model."""
    return Regression(data, response, loss=Huber(delta), scale=1 / data.shape[-2])
