"""A step on a sparse gradient and the forward pass before it cost what their rows cost, not what the table does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from nonsmooth.optim import ProxAdagrad, ProxSGD
from nonsmooth.penalties import L1, MCP, GroupL1, SparseGroupL1

KINDS = [ProxSGD, ProxAdagrad]
PENALTIES = {"L1": L1(0.02), "MCP": MCP(0.03), "rows": GroupL1(0.03), "sparse groups": SparseGroupL1(0.03)}


class Traffic(TorchDispatchMode):
    """Bytes of all operands and results, but of a table those rows alone that an operation takes by their numbers."""

    BY_NUMBER = ("index_select", "index_copy_", "index", "index_put_", "_index_put_impl_", "sparse_mask", "embedding")

    def __init__(self, rows):
        super().__init__()
        self.rows, self.bytes = rows, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        del types
        result = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if function.is_view or "sparse" in name or name.startswith("_indices"):
            return result
        tensors = [each for each in (*args, result) if isinstance(each, torch.Tensor)]
        sparse = any(each.is_sparse for each in tensors)
        for each in tensors:
            if each.is_sparse:
                self.bytes += each._values().nbytes
            elif not (each.ndim and each.shape[0] == self.rows and (sparse or name in self.BY_NUMBER)):
                self.bytes += each.nbytes
        return result


def traffic(kind, penalty, rows):
    """Of a forward pass of an embedding and a step on 8 rows, most of which have missed some steps."""
    torch.manual_seed(0)
    model = nn.Embedding(rows, 4, sparse=True)
    optimizer = kind(model.parameters(), lr=0.1, penalty=penalty)
    optimizer.follow(model)
    generator = torch.Generator().manual_seed(0)
    counted = Traffic(rows)
    for step in range(6):
        optimizer.zero_grad()
        loss = model(torch.randperm(96, generator=generator)[:8]).sum()
        loss.backward()
        optimizer.step()
        if step == 0:  # which makes the list of what rows have seen
            counted.__enter__()
    counted.__exit__(None, None, None)
    return counted.bytes


@pytest.mark.parametrize("name", ["L1", "MCP", "rows", "sparse groups"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_costs_what_its_rows_cost(kind, name):
    small, large = (traffic(kind, PENALTIES[name], rows) for rows in (96, 96_000))
    assert small == large
    assert 1000 < large < 96_000 * 4


def test_the_traffic_of_a_step_on_the_whole_table_is_seen():
    """Else nothing would be counted above."""
    weight = nn.Parameter(torch.ones(1000, 4))
    optimizer = ProxSGD([weight], lr=0.1, penalty=L1(0.1))
    weight.grad = torch.ones(1000, 4)
    with Traffic(1000) as counted:
        optimizer.step()
    assert counted.bytes > 2 * weight.nbytes
