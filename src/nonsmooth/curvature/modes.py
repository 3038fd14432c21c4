"""What computes something else in training than in evaluation: modules, and functions that are called in others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode

Function = Callable[..., Any]

_PROBABILITY: Mapping[Function, tuple[int, str]] = {
    **{
        getattr(functional, name): (1, "p")
        for name in ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout")
    },
    functional.scaled_dot_product_attention: (4, "dropout_p"),
}
"""Functions that drop entries, with the place and the name of the argument that says how many."""
_RUNNING_MEAN: Mapping[Function, tuple[int, str]] = {
    functional.batch_norm: (1, "running_mean"),
    functional.instance_norm: (1, "running_mean"),
}
"""Functions that use statistics of the batch or running ones, with the argument that holds the running ones."""


def has_modes(module: nn.Module) -> bool:
    """Whether a module of torch computes something else in training than in evaluation."""
    if isinstance(module, (_BatchNorm, _InstanceNorm)):
        return bool(module.track_running_stats)
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return module.dropout > 0
    return isinstance(module, nn.RReLU)


class FunctionsWithModes(TorchFunctionMode):
    """Inside it, the names of the functions are noted that compute something else in training than in evaluation.

    Attributes:
        names: of those that were called.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_function__(
        self, function: Function, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Note the function and run it."""
        del types
        options = dict(kwargs or {})
        if function in _PROBABILITY and _argument(args, options, *_PROBABILITY[function], default=_usual(function)):
            self.names.add(function.__name__)
        if function in _RUNNING_MEAN and _argument(args, options, *_RUNNING_MEAN[function], default=None) is not None:
            self.names.add(function.__name__)
        if function is functional.rrelu:
            self.names.add(function.__name__)
        return function(*args, **options)


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, *, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


@functools.cache
def _usual(function: Function) -> float:
    """Of how many entries it drops where it is not told."""
    return 0.0 if function is functional.scaled_dot_product_attention else 0.5
