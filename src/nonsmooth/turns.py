"""Measurements take turns: two that draw random numbers, or look at one model, would find what the other has set.

Threads that do not measure are not kept waiting, and nothing that they use is set.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_turn = threading.RLock()


@contextmanager
def turn() -> Iterator[None]:
    """A block that one thread at a time is in, as often as it likes.

    A forward pass that waits for another thread to measure would wait for ever.
    """
    with _turn:
        yield


def _begin_anew() -> None:
    """In a forked process the thread that has the turn does not exist."""
    global _turn  # noqa: PLW0603
    _turn = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_anew)
