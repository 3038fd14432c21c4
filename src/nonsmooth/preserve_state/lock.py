"""One measurement at a time: two that draw random numbers, or look at one model, would see each other's changes.

Threads that do not measure never wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def measurement_lock() -> Iterator[None]:
    """A block that one thread at a time is in; it may enter again.

    A forward pass that waits for another thread's measurement waits for ever.
    """
    with _lock:
        yield


def _unlock() -> None:
    """The thread that holds the lock does not exist in a forked process."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_unlock)
