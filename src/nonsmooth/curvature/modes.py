"""What the functions that a closure calls tell: whether modes matter, and in which precision it computes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
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


_PRODUCTS = {"linear", "bilinear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "mv", "einsum", "tensordot"}
_PRODUCTS.add(functional.scaled_dot_product_attention.__name__)
TENSOR_FLOAT = 2.0**-10
"""The relative rounding error of TensorFloat-32."""


def has_modes(module: nn.Module) -> bool:
    """Whether a module of torch computes something else in training than in evaluation."""
    if isinstance(module, (_BatchNorm, _InstanceNorm)):
        return bool(module.track_running_stats)
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return module.dropout > 0
    return isinstance(module, nn.RReLU)


class WatchedFunctions(TorchFunctionMode):
    """Inside it, the functions of PyTorch that are called are looked at; those inside a compiled model are not seen.

    Attributes:
        with_modes: names of those that compute something else in training than in evaluation.
        precision: relative rounding error of the coarsest numbers that came out; 0 if there were none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.with_modes: set[str] = set()
        self.precision = 0.0

    def __torch_function__(
        self, function: Function, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run the function and note what it is."""
        del types
        options = dict(kwargs or {})
        if _goes_by_mode(function, args, options):
            self.with_modes.add(function.__name__)
        result = function(*args, **options)
        if isinstance(result, Tensor) and result.is_floating_point():
            self.precision = max(self.precision, _precision(function, result))
        return result


def _goes_by_mode(function: Function, args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    if function in _PROBABILITY:
        return bool(_argument(args, options, *_PROBABILITY[function], default=_usual(function)) > 0)
    if function in _RUNNING_MEAN:
        return _argument(args, options, *_RUNNING_MEAN[function], default=None) is not None
    return function is functional.rrelu


def _precision(function: Function, result: Tensor) -> float:
    """Of a result; products on a GPU may be computed in TensorFloat-32, which has ten bits."""
    precision = torch.finfo(result.dtype).eps
    if result.dtype == torch.float32 and result.is_cuda:
        name = getattr(function, "__name__", "")
        convolves = "conv" in name and torch.backends.cudnn.allow_tf32
        multiplies = name in _PRODUCTS and torch.backends.cuda.matmul.allow_tf32
        precision = TENSOR_FLOAT if convolves or multiplies else precision
    return precision


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, *, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


@functools.cache
def _usual(function: Function) -> float:
    """Of how many entries it drops where it is not told."""
    return 0.0 if function is functional.scaled_dot_product_attention else 0.5
