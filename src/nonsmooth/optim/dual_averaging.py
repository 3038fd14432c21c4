"""Dual averaging: thresholds against the mean of all gradients so far, which noise in the single ones hardly moves.

Under sampled gradients a proximal step keeps throwing weights across zero and back, however small it is, since
threshold and noise shrink together. The mean of t gradients has a noise that falls like 1/√t while its threshold λ
stays, so the support comes to rest.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from nonsmooth.optim.group_checks import check_before_step, refuse_sparse
from nonsmooth.optim.penalized import PenalizedOptimizer
from nonsmooth.optim.penalty_reader import to_specification
from nonsmooth.optim.prox_taken import remember_weights
from nonsmooth.optim.proximal_step import prox_parameter
from nonsmooth.penalties import Penalty
from nonsmooth.penalties.penalty import check_not_negative
from nonsmooth.torch_optimizers import number

CENTRES = ("zero", "start")
ON_THE_HOST = ("step", "prox_step")
"""State that, where it is one number, stays as it is saved, so that reading it is no wait for a device."""


class DualAveraging(PenalizedOptimizer):
    """What `RDA` and `XRDA` share: a step on parameters with a dense gradient, running sums in at least float32."""

    needed: ClassVar[tuple[str, ...]]
    """The state that a step reads, once there is one."""

    sums: ClassVar[tuple[str, ...]]
    """The state that has the parameter's shape."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take in the gradients of the loss, and move every parameter that has one.

        Args:
            closure: clears gradients, computes the loss without its penalty, calls backward and returns the loss.

        Returns:
            What the closure returned, None without one.

        Raises:
            TypeError: a group holds something else than a penalty; nothing has been changed then.
            ValueError: a gradient is sparse, an option is out of its range, a penalty has invalid numbers or does not
                fit, or the step is too large for a penalty that is not convex; nothing has been changed then.
        """
        loss = None
        if closure is not None:
            self._check_before_step(ahead=True)
            with torch.enable_grad():
                loss = closure()
        self._check_before_step()
        for group in self.param_groups:
            bound = self._reader(group)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    penalty = None if bound is None or bound.is_off else bound.on(parameter.device)
                    self.move(group, penalty, parameter, self.state[parameter])
        remember_weights(self)
        return loss

    def _check_before_step(self, *, ahead: bool = False) -> None:
        for parameter in chain.from_iterable(group["params"] for group in self.param_groups):
            if parameter.grad is not None and parameter.grad.layout != torch.strided:
                refuse_sparse(parameter, "dual averaging moves every coordinate", way_out="")
        check_before_step(self, self._reader, ahead=ahead)
        for group in self.param_groups:
            self.check_options(group)
            bound = self._reader(group)
            penalty = None if bound is None or bound.is_off else bound.penalty
            limited = penalty is not None and penalty.largest_step < math.inf
            for parameter in group["params"]:
                if parameter.grad is None and not ahead:
                    continue
                state = self.state.get(parameter, {})
                check_shapes(parameter, {name: state[name] for name in self.sums if name in state})
                if penalty is not None and limited:
                    penalty.check_step(self.next_prox_step(group, state))

    @abstractmethod
    def check_options(self, group: Mapping[str, Any]) -> None:
        """Raise unless the options of a group are in their range.

        Raises:
            ValueError: they are not.
        """

    @abstractmethod
    def next_prox_step(self, group: Mapping[str, Any], state: Mapping[str, Any]) -> float | Tensor:
        """The step of the prox that the next step will take, or a bound of it."""

    @abstractmethod
    def move(self, group: Mapping[str, Any], penalty: Penalty | None, parameter: Tensor, state: dict[str, Any]) -> None:
        """Take in a parameter's gradient and overwrite the parameter."""

    def check_group(self, group: Mapping[str, Any]) -> None:
        """Raise unless a group's options are in their range and its penalty fits its parameters.

        Raises:
            ValueError: they are not, or it does not.
        """
        self.check_options(group)
        super().check_group(group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` gave; running sums keep their precision, which may exceed the parameters'.

        Raises:
            ValueError: a penalty is not known or does not fit, or an option is out of its range; nothing has been
                changed then.
        """
        for own, saved in zip(self.param_groups, state_dict["param_groups"], strict=False):
            self.check_options({**own, **saved, "params": own["params"]})
        self._check_state(state_dict)
        loaded: dict[str, Any] = {}
        # Registered last, it sees what the hooks of others have made of the state.
        handle = self.register_load_state_dict_pre_hook(lambda _, given: loaded.update(given))
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()
        numbers = chain.from_iterable(group["params"] for group in loaded["param_groups"])
        parameters = chain.from_iterable(group["params"] for group in self.param_groups)
        for place, parameter in zip(numbers, parameters, strict=True):
            for name, value in loaded["state"].get(place, {}).items():
                if not isinstance(value, Tensor):
                    continue
                if name in ON_THE_HOST and value.ndim == 0:
                    self.state[parameter][name] = value.clone()
                elif value.dtype != self.state[parameter][name].dtype:
                    self.state[parameter][name] = value.to(device=parameter.device)

    def _check_state(self, state_dict: dict[str, Any]) -> None:
        """Raise unless each parameter's state has what a step reads; more of it does no harm.

        Raises:
            ValueError: it has not.
        """
        for place, state in state_dict["state"].items():
            missing = [name for name in self.needed if name not in state] if isinstance(state, dict) and state else []
            if missing:
                raise ValueError(
                    f"state of parameter {place} has {', '.join(map(str, state))} and lacks {', '.join(missing)}; "
                    f"accepted is a state of {type(self).__name__}"
                )

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for own in self.state.values():
            for name in ON_THE_HOST:
                # As older optimisers and other tools write it.
                if isinstance(own, dict) and isinstance(own.get(name), float | int):
                    own[name] = torch.tensor(own[name], dtype=torch.float64, device="cpu")
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)


class RDA(DualAveraging):
    """Regularised dual averaging (Xiao 2009) with any penalty, l1-RDA for the L1 norm.

    w_{t+1} = argmin ⟨ḡ_t, w⟩ + λR(w) + γ/(2√t)·‖w - c‖², ḡ_t the mean of the t gradients so far: the prox of
    c - (√t/γ)ḡ_t with step √t/γ. A weight is zero iff |ḡ| ≤ λ (for the L1 norm, c = 0), whatever γ is.

    The first step with c = 0 leaves nothing of the parameters' values, a pretrained network's included, and of a layer
    whose gradient is below λ it leaves zeros for good; `centre="start"` keeps the start as long as the gradients do.
    The optimum is approached like γ‖w - c‖/√t. A small γ is faster, but where 1/γ is far above the step size at which
    gradient descent is stable the iterates grow beyond all bounds first, on a full batch above all.

    1/γ is not a step size to anneal: a schedule that lowers it towards 0 pulls the weights back to c. At exactly 0, as
    a warm-up may begin with, the gradient is taken in and nothing moves. The sum of the gradients is kept in float32
    for parameters of less precision: they are rounded once, and lose no shrinkage.

    Args:
        params: parameters, or groups of them, as for any torch optimiser; each group may have options of its own.
        lr: 1/γ ≥ 0, a number or a tensor of one element.
        penalty: λR, for all groups that do not bring their own.
        centre: c, where the weights are pulled to beside the penalty: "zero", as published, or "start", the value that
            a parameter has when it is first moved. The penalty pulls to zero under both.
        weight_decay: wd ≥ 0; the gradient of wd‖w‖²/2 is added to the loss's.
        maximize: go up the loss; the penalty still pulls to zero.

    Raises:
        ValueError: an option is out of its range, or the penalty does not fit a parameter.
    """

    needed = ("step", "gradient_sum")
    sums = ("gradient_sum", "centre")

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        penalty: Penalty | None = None,
        centre: str = "zero",
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "centre": centre,
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
        if group.get("centre", "zero") not in CENTRES:
            raise ValueError(f"centre is {group['centre']!r}; accepted are {', '.join(CENTRES)}")

    def next_prox_step(self, group: Mapping[str, Any], state: Mapping[str, Any]) -> float | Tensor:
        """√(t+1)/γ, which grows without bound."""
        return number(group["lr"]) * (number(state.get("step", 0.0)) + 1) ** 0.5

    def move(self, group: Mapping[str, Any], penalty: Penalty | None, parameter: Tensor, state: dict[str, Any]) -> None:
        """Add the gradient to the sum, and go from the centre against its mean."""
        if "step" not in state:
            state["step"] = torch.tensor(0.0, dtype=torch.float64, device="cpu")
            state["gradient_sum"] = running_sum(parameter)
        if group["centre"] == "start" and "centre" not in state:
            state["centre"] = parameter.detach().clone()
        state["step"] += 1
        total = state["gradient_sum"]
        add_gradient(total, group, parameter, 1)
        rate, count = number(group["lr"]), number(state["step"])
        if not isinstance(rate, Tensor) and rate == 0:
            return
        # In place where no precision is lost by that.
        in_place = parameter.dtype == total.dtype and not isinstance(rate, Tensor)
        point = (parameter.copy_(total) if in_place else total.clone()).mul_(-(rate / count**0.5))
        if group["centre"] == "start":
            point.add_(state["centre"])
        if penalty is not None:
            prox_parameter(penalty, point, rate * count**0.5)
        if not in_place:
            parameter.copy_(torch.where(rate == 0, parameter, point) if isinstance(rate, Tensor) else point)


def running_sum(parameter: Tensor) -> Tensor:
    """A running sum's zeros: as the parameter, in at least float32."""
    return torch.zeros_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))


def add_gradient(total: Tensor, group: Mapping[str, Any], parameter: Tensor, share: float | Tensor) -> None:
    """Add a share of the gradient of what is minimised, weight decay included, to a running sum."""
    sign = -1 if group["maximize"] else 1
    for part, factor in ((parameter.grad, sign * share), (parameter.detach(), group["weight_decay"] * share)):
        if isinstance(factor, Tensor):
            total.add_(part * factor)  # type: ignore[operator]
        elif factor:
            total.add_(part, alpha=factor)  # type: ignore[arg-type]


def check_step_size(rate: Any) -> None:
    """Raise unless a step size is a number of at least 0, or a tensor of one element; on a device it is not read.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(rate, Tensor):
        check_not_negative("lr", rate)
    elif rate.numel() != 1:
        raise ValueError(f"lr has shape {tuple(rate.shape)}; accepted is a number, or a tensor of one element")
    elif rate.device.type == "cpu" and not torch.compiler.is_compiling():
        check_not_negative("lr", rate)


def check_shapes(parameter: Tensor, state: Mapping[str, Any]) -> None:
    """Raise unless gradient and running sums have the parameter's shape, as after an assignment to its `.data`.

    Raises:
        ValueError: one has another shape.
    """
    for name, value in {"grad": parameter.grad, **state}.items():
        number_of_all = name in ON_THE_HOST and isinstance(value, Tensor) and value.ndim == 0
        if isinstance(value, Tensor) and not number_of_all and value.shape != parameter.shape:
            raise ValueError(
                f"{name} of a parameter of shape {tuple(parameter.shape)} has shape {tuple(value.shape)}; accepted is "
                "the shape of the parameter"
            )
