"""Extended dual averaging, between proximal SGD with momentum and dual averaging, with weights that adapt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from nonsmooth.optim.dual_averaging import DualAveraging, add_gradient, check_step_size, running_sum
from nonsmooth.optim.penalty_reader import to_specification
from nonsmooth.optim.proximal_step import prox_parameter
from nonsmooth.penalties import Penalty, from_specification
from nonsmooth.penalties.penalty import check_above, check_not_negative, check_share
from nonsmooth.torch_optimizers import number


class XRDA(DualAveraging):
    """Extended dual averaging, xRDA (Siegel et al. 2020, arXiv 2008.09661), by which its authors train sparse VGG16.

    Between proximal SGD with momentum (a = 0) and dual averaging from the start point (a = 1). A step of size h:

    - v = M/(1 + (M-1)·r/max r), r the running mean of |w|: 1 for the largest weight, M for a weight at zero;
    - s ← a·s + h·v, the step of the prox;
    - V ← e^(-h/m)·V + (1 - e^(-h/m))·g, the running mean of the gradients, from 0;
    - y ← a·y + (1-a)·w - h·V, from the start point;
    - w ← prox of y with step s, for the L1 norm S(y, λs).

    With M = 1 a fixed point with a < 1 is an optimum for λ; with a larger M, of the penalty with weights v, under which
    small weights pay up to M·λ and which no number λ describes (`adaptive_weights` gives them to a certificate). The
    published recipe for CIFAR-10 is h from 1 by a cosine to 0, a from 0 to 1, λ = 1e-6, M = 500, m = 9.5, weight decay
    5e-4. Running means are kept in float32 for parameters of less precision.

    Args:
        params: parameters, or groups of them, as for any torch optimiser; each group may have options of its own.
        lr: h ≥ 0, a number or a tensor of one element.
        averaging: a in [0, 1]; a schedule may write it into the groups.
        amplification: M ≥ 1.
        amplification_dim: the dimension or dimensions over which max r is taken; None for the whole parameter.
        time_scale: m > 0, in units of the step size: the momentum is e^(-h/m), so m = 9.5·h is 0.9 at any h.
        penalty: λR, for all groups that do not bring their own.
        weight_decay: wd ≥ 0; the gradient of wd‖w‖²/2 is added to the loss's.
        maximize: go up the loss; the penalty still pulls to zero.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """

    needed = ("gradient_mean", "prox_step")
    sums = ("gradient_mean", "prox_step", "average", "size_mean")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        averaging: float = 0.5,
        amplification: float = 1.0,
        amplification_dim: int | tuple[int, ...] | None = None,
        time_scale: float = 9.5,
        penalty: Penalty | None = None,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "averaging": averaging,
            "amplification": amplification,
            "amplification_dim": amplification_dim,
            "time_scale": time_scale,
            "weight_decay": weight_decay,
            "maximize": maximize,
            "penalty": to_specification(penalty),
        }
        self.check_options(defaults)
        super().__init__(params, defaults)

    def check_options(self, group: Mapping[str, Any]) -> None:
        """Raise unless the options of a group are in their range.

        Raises:
            ValueError: they are not.
        """
        check_step_size(group["lr"])
        check_not_negative("weight_decay", group.get("weight_decay", 0.0))
        check_share("averaging", group.get("averaging", 0.0))
        check_above("time_scale", group.get("time_scale", 1.0), 0)
        amplification: Any = group.get("amplification", 1.0)
        if not (isinstance(amplification, float | int) and 1 <= amplification < math.inf):
            raise ValueError(f"amplification is {amplification!r}; accepted is a finite number of at least 1")
        dims: Any = group.get("amplification_dim")
        for dim in () if dims is None else (dims,) if isinstance(dims, int) else dims:
            for parameter in group.get("params", ()):
                if not -parameter.ndim <= dim < parameter.ndim:
                    raise ValueError(f"amplification_dim is {dims}; a parameter has shape {tuple(parameter.shape)}")

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Raise unless a group's options are in their range and its penalty fits its parameters.

        Raises:
            ValueError: they are not, or it does not.
        """
        super().check_group(group)
        if group.get("penalty") is not None and group["amplification"] > 1:
            for parameter in group["params"]:
                if parameter.is_complex():
                    from_specification(group["penalty"]).check_metric(by_parts=False)

    def next_prox_step(self, group: Mapping[str, Any], state: Mapping[str, Any]) -> float | Tensor:
        """At most a·s + h·M."""
        last = state.get("prox_step", 0.0)
        last = last if isinstance(last, Tensor) else torch.tensor(last, device="cpu")
        largest = float(last.max()) if last.numel() else 0.0
        return group["averaging"] * largest + number(group["lr"]) * group["amplification"]  # type: ignore[no-any-return]

    def move(self, group: Mapping[str, Any], penalty: Penalty | None, parameter: Tensor, state: dict[str, Any]) -> None:
        """The recursion above, for one parameter."""
        rate, averaging = number(group["lr"]), group["averaging"]
        take = 1 - _exponential(-rate / group["time_scale"])
        state.setdefault("gradient_mean", running_sum(parameter))
        last = state.get("prox_step", 0.0)
        last = number(last) if isinstance(last, Tensor) and last.ndim == 0 else last
        step = averaging * last + rate * self._weights(group, parameter, state, take)
        state["prox_step"] = step if isinstance(step, Tensor) else torch.tensor(step, dtype=torch.float64, device="cpu")
        mean = state["gradient_mean"].mul_(1 - take)
        add_gradient(mean, group, parameter, take)
        average = state.get("average")
        precise = parameter.detach().to(mean.dtype)
        average = precise.clone() if average is None or averaging == 0 else average.lerp_(precise, 1 - averaging)
        if isinstance(rate, Tensor):
            average.sub_(mean * rate)
        else:
            average.sub_(mean, alpha=rate)
        # With a = 0 nothing is averaged, and nothing need be kept.
        state.pop("average", None)
        if averaging > 0:
            state["average"] = average
        # In place where no precision is lost by that.
        in_place = parameter.dtype == average.dtype
        point = parameter.copy_(average) if in_place else average.clone()
        if penalty is not None:
            prox_parameter(penalty, point, step)
        if not in_place:
            parameter.copy_(point)

    def _weights(
        self, group: Mapping[str, Any], parameter: Tensor, state: dict[str, Any], take: float | Tensor
    ) -> float | Tensor:
        """Take |w| into its running mean, and return v."""
        if group["amplification"] == 1:
            return 1.0
        size = parameter.detach().abs().to(state["gradient_mean"].dtype.to_real())
        size = state.setdefault("size_mean", torch.zeros_like(size)).lerp_(size, take)
        return adaptive_weights(size, group["amplification"], group["amplification_dim"])


def adaptive_weights(size: Tensor, amplification: float, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Weights v = M/(1 + (M-1)·r/max r): 1 for the largest size, M for zero, and M for all if all are zero (xRDA).

    Args:
        size: r ≥ 0.
        amplification: M.
        dim: the dimensions over which the largest is taken; None for all.
    """
    if size.numel() == 0:
        return size
    largest = _largest(size, () if dim is None else dim).clamp(min=torch.finfo(size.dtype).tiny)
    return amplification / (1 + (amplification - 1) * size / largest)


def _largest(size: Any, dim: int | tuple[int, ...]) -> Tensor:
    """The largest entries along dimensions, which stay."""
    if not hasattr(size, "full_tensor"):
        return size.amax(dim, keepdim=True)  # type: ignore[no-any-return]
    # A DTensor, of which a process may hold no entry at all: torch takes no largest of none.
    from torch.distributed.tensor import DTensor, Replicate  # noqa: PLC0415  slow to import

    whole = size.full_tensor().amax(dim, keepdim=True)
    return DTensor.from_local(whole, size.device_mesh, [Replicate()] * size.device_mesh.ndim, run_check=False)


def _exponential(value: float | Tensor) -> float | Tensor:
    return value.exp() if isinstance(value, Tensor) else math.exp(value)
