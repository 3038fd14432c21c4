"""What passes beside PyTorch's dispatcher: numbers that leave for NumPy or Python, and results made elsewhere.

A kernel of another library, NumPy inside an `autograd.Function`, another thread: the recording sees none of their
operations. It only sees a tensor leave, and a tensor appear whose autograd graph was not recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

LEAVING = ("numpy", "tolist", "__dlpack__")
"""Methods that hand a tensor's numbers to something else. `__array__` calls `numpy`; `item` is an operator itself."""


@contextmanager
def reported(report: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Report each tensor that leaves in this thread, before it does."""
    here = threading.get_ident()
    own = {name: vars(Tensor)[name] for name in LEAVING if name in vars(Tensor)}

    def watched(name: str) -> Callable[..., Any]:
        original = getattr(Tensor, name)

        def leave(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() == here:
                report(name.strip("_"), self)
            return original(self, *args, **kwargs)

        return leave

    try:
        for name in LEAVING:
            setattr(Tensor, name, watched(name))
        yield
    finally:
        for name in LEAVING:
            if name in own:
                setattr(Tensor, name, own[name])
            else:
                delattr(Tensor, name)
