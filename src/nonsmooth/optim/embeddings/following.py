"""Modules that bring rows of their embedding up to date before they read them."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nonsmooth.optim.embeddings.missed_steps import MISSED, bring_up
from nonsmooth.optim.embeddings.row_steps import FOLLOWED
from nonsmooth.optim.embeddings.sparse_gradients import ACCEPTED_BY_ROWS
from nonsmooth.optim.evaluation import unwrapped
from nonsmooth.optim.parameter_groups import check_model

EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def follow(optimizer: Any, model: nn.Module) -> None:
    """Let the embeddings of a model bring up to date what they are about to read.

    Call it once, before training, for embeddings with `sparse=True` under a proximal SGD or Adagrad: their rows take
    the prox of steps without a gradient later, and a forward pass must not read a row before. The model's
    `torch.nn.Embedding` and `EmbeddingBag` modules get hooks which take these proxes, of the rows with the coming
    indices, and of all rows in `state_dict` and `load_state_dict`. Another module that holds the same weight, as a
    decoder that is tied to the embedding, brings all of its rows up to date.

    What reads the weight without such a module, as `F.embedding(indices, weight)` does, has to be preceded by
    `catch_up`, and so does what writes it, or puts it back as measurements do. Neither are copies and pickles of the
    model followed, nor does a copy of the optimizer follow: call it again.

    Args:
        optimizer: a proximal optimizer, or a wrapper with one in an attribute.
        model: the network in training.

    Raises:
        TypeError: not an optimizer, or not a model.
        ValueError: the model has no embedding with `sparse=True` whose weight the optimizer has.
    """
    check_model(model)
    inner = unwrapped(optimizer)
    ours = {parameter for group in inner.param_groups for parameter in group["params"]}
    weights = {
        module.weight
        for module in model.modules()
        if isinstance(module, EMBEDDINGS) and module.sparse and module.weight in ours
    }
    if not weights:
        raise ValueError(
            "model has no torch.nn.Embedding or EmbeddingBag with sparse=True whose weight is in optimizer, so there "
            f"is nothing to follow. {ACCEPTED_BY_ROWS}"
        )
    inner.__dict__.setdefault(FOLLOWED, set()).update(weights)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter in weights and not _is_followed(module, name, inner):
                hook = _BringUp(inner, name)
                module.register_forward_pre_hook(hook.before_forward, with_kwargs=True)
                module.register_state_dict_pre_hook(hook.whole)  # type: ignore[no-untyped-call]
                module.register_load_state_dict_pre_hook(hook.whole)  # type: ignore[no-untyped-call]


class _BringUp:
    """What the hooks of a module do; nothing in a copy, whose weights are not the optimizer's.

    Args:
        optimizer: whose steps the rows may have missed; None for a copy.
        name: of the weight in the module.
    """

    def __init__(self, optimizer: Optimizer | None, name: str) -> None:
        self.optimizer = None if optimizer is None else weakref.ref(optimizer)
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return _BringUp, (None, self.name)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def before_forward(self, module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Bring up to date the rows that an embedding is about to read, or all those of another module."""
        indices = arguments[0] if arguments else options.get("input")
        by_row = isinstance(module, EMBEDDINGS) and isinstance(indices, Tensor)
        self._bring_up(module, indices.reshape(-1) if by_row else None)  # type: ignore[union-attr]

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def whole(self, module: nn.Module, *others: Any) -> None:
        """Bring all rows up to date."""
        del others
        self._bring_up(module, None)

    def _bring_up(self, module: nn.Module, rows: Tensor | None) -> None:
        optimizer = None if self.optimizer is None else self.optimizer()
        parameter = getattr(module, self.name)
        if optimizer is not None and MISSED in optimizer.state.get(parameter, ()):
            bring_up(optimizer, parameter, rows)


def _is_followed(module: nn.Module, name: str, optimizer: Optimizer) -> bool:
    hooks = [getattr(hook, "__self__", None) for hook in module._forward_pre_hooks.values()]
    return any(
        isinstance(hook, _BringUp)
        and hook.name == name
        and hook.optimizer is not None
        and hook.optimizer() is optimizer
        for hook in hooks
    )
