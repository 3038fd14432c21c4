"""Autocast's cache of cast parameters, which all threads share."""

from __future__ import annotations

import torch


def forget_casts() -> None:
    """Let parameters be cast anew in the autocast region that this thread is in, if it is in one.

    Outside of one there is nothing to forget: the outermost region empties the cache when it ends. Emptied all the
    same, it would let another thread cast a weight twice in a step, and add its gradient in another precision.
    """
    nesting = torch.autocast_increment_nesting() - 1
    torch.autocast_decrement_nesting()
    if nesting:
        torch.clear_autocast_cache()
