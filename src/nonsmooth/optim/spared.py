"""Large parts of a parameter, single weights or groups, that a step's prox leaves as they are.

A penalty on the smallest parts alone (the trimmed LASSO: Gotoh, Takeda & Tono 2018; Yun et al. 2019) makes zeros of
these and does not shrink the others, and no λ makes more zeros than there are small parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from nonsmooth.optim.evaluation import whole
from nonsmooth.optim.launch_operands import local
from nonsmooth.optim.target_state import SPARED
from nonsmooth.penalties import Penalty


def large_parts(group: Mapping[str, Any], penalty: Penalty, parameter: Tensor) -> Callable[[], None] | None:
    """What puts back the large parts of a parameter once its prox is taken; None where they cannot be told apart."""
    if penalty.separable or not hasattr(parameter, "device_mesh"):
        before = local(parameter).clone()
        large = penalty.above(before, group[SPARED])
    else:
        from nonsmooth.optim.distributed import local_part  # noqa: PLC0415  torch.distributed is slow to import

        before, gathered = local(parameter).clone(), whole(parameter)
        everywhere = penalty.above(gathered, group[SPARED])
        large = None if everywhere is None else local_part(everywhere.expand_as(gathered), parameter)  # type: ignore[arg-type]
    if large is None:
        return None
    point = local(parameter)

    def put_back() -> None:
        point.copy_(torch.where(large, before, point))

    return put_back
