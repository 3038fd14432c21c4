"""Find the L1-type penalties in a loss, with their λ, and those that carry no gradient and so do nothing.

In the graph, a term is an absolute value or a norm of a parameter whose way to the loss is linear; its λ is what the
loss's derivative with respect to it becomes on the way to the parameter, so that no multiplier can be overlooked. A
penalty on `.data` or `.detach()`, by `.item()`, or computed under `no_grad`, is not in the graph. It is found by
recording, and its λ measured: the term is made larger, and the loss and its gradient looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nonsmooth.kinks.findings import PenaltyTerm
from nonsmooth.kinks.penalty_terms.closure_terms import closure_terms
from nonsmooth.kinks.penalty_terms.graph_terms import graph_terms
from nonsmooth.kinks.recording.leaves import Leaves, NamedParameters, named


def penalty_terms(loss: Tensor | Callable[[], Any], named_parameters: NamedParameters) -> tuple[PenaltyTerm, ...]:
    """Find the L1-type penalties in a loss.

    Found are `w.abs().sum()` and its mean, `w.norm(1)`, `l1_loss(w, 0)`, `torch.dist(w, 0, 1)`, `maximum(w, -w)`,
    group norms, largest entries such as `w.abs().amax(1)`, nuclear norms not, each times constants inside and outside,
    over whole parameters, parts of them and `torch.cat` of several. Terms of the same kind on the same parameters are
    one, with the sum of their λ. Squared norms, and norms smoothed by an ε, are smooth and no such terms.

    Nothing is changed; a loss may be used afterwards.

    Args:
        loss: a loss with its graph, or a callable without arguments that returns one; it may call `backward()`, but
            not an optimiser's `step()`. Only with the callable can penalties without a gradient be found; it is called
            once, and more often if it computes norms that are not in its graph.
        named_parameters: a module, a mapping, or pairs of name and tensor. With the module, its modes and the names
            of its buffers are put back as well, should the callable change them.

    Returns:
        The terms, those with a gradient first.

    Raises:
        TypeError: the loss is neither a tensor nor a callable.
        ValueError: it is not one number, has no graph, `backward` freed its graph, or the parameters were written to
            since, as by a step of an optimiser.
    """
    pairs = named(named_parameters)
    if isinstance(loss, Tensor):
        if loss.numel() != 1 or loss.grad_fn is None:
            without = "" if loss.grad_fn is not None else " without a graph"
            raise ValueError(f"loss has shape {tuple(loss.shape)}{without}; accepted is one number with its graph")
        return graph_terms(loss, Leaves(pairs, complete=True))
    if not callable(loss):
        raise TypeError(f"loss is {loss!r}; accepted are a tensor with its graph, or a callable that returns one")
    modules = list(named_parameters.modules()) if isinstance(named_parameters, nn.Module) else []
    return closure_terms(loss, pairs, modules)
