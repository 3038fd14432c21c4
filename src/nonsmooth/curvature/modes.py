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


_PRODUCTS = {
    "linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "mv", "addmm", "addbmm", "baddbmm",
    "addmv", "inner", "einsum", "tensordot", "chain_matmul", "multi_dot", "matrix_power", "matrix_exp", "cdist",
    "scaled_dot_product_attention", "multi_head_attention_forward", "rnn_tanh_cell", "rnn_relu_cell", "lstm_cell",
    "gru_cell",
}  # fmt: skip
"""Functions that multiply matrices. What they call inside is not seen."""
_RECURRENT = {"rnn_tanh", "rnn_relu", "lstm", "gru"}
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
        for part in result if isinstance(result, tuple) else (result,):
            if isinstance(part, Tensor) and (part.is_floating_point() or part.is_complex()):
                self.precision = max(self.precision, _precision(function, part))
        return result


def _goes_by_mode(function: Function, args: tuple[Any, ...], options: Mapping[str, Any]) -> bool:
    if function in _PROBABILITY:
        return bool(_argument(args, options, *_PROBABILITY[function], default=_usual(function)) > 0)
    if function in _RUNNING_MEAN:
        return _argument(args, options, *_RUNNING_MEAN[function], default=None) is not None
    return function is functional.rrelu


def _precision(function: Function, result: Tensor) -> float:
    """Of a result; products on a GPU may be computed in TensorFloat-32, which has ten bits."""
    if result.dtype in (torch.float32, torch.complex64) and result.is_cuda:
        name, cudnn = getattr(function, "__name__", "").removeprefix("linalg_"), torch.backends.cudnn
        name = name if name.endswith("__") else name.rstrip("_")
        if (
            ("conv" in name and _takes_tensor_float(cudnn, "conv"))
            or (name in _RECURRENT and _takes_tensor_float(cudnn, "rnn"))
            or (name in _PRODUCTS and _takes_tensor_float(torch.backends.cuda, "matmul"))
        ):
            return TENSOR_FLOAT
    return torch.finfo(result.dtype).eps


def _takes_tensor_float(backend: Any, operation: str) -> bool:
    """Whether single precision is cut to TensorFloat-32, as asked for in the way of PyTorch 2.9 or in the older one.

    The older question is an error once the newer way was used.
    """
    part = getattr(backend, operation, backend)
    precision = getattr(part, "fp32_precision", None)
    return bool(part.allow_tf32) if precision is None else precision == "tf32"


def _argument(args: tuple[Any, ...], kwargs: Mapping[str, Any], place: int, name: str, *, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


@functools.cache
def _usual(function: Function) -> float:
    """Of how many entries it drops where it is not told."""
    return 0.0 if function is functional.scaled_dot_product_attention else 0.5
