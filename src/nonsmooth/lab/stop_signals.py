"""Requests to stop: Ctrl-C, a request to terminate, a terminal that was closed."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that ask a run to stop, where the platform has them."""

_SAME_REQUEST = 1.0
"""Seconds in which a signal that comes again is the same request: `timeout` sends it to the process and its group."""


@contextlib.contextmanager
def stop_signals(ask_to_stop: Callable[[int], None]) -> Iterator[None]:
    """Turn the first request to stop into a call; a later one acts as it would without us.

    Only the main thread may handle signals; elsewhere they are left to whoever handles them there. What is ignored, as
    SIGHUP is under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    # A handler that is None was not set by Python, and Python cannot put it back.
    before = {n: handler for n in numbers if (handler := signal.getsignal(n)) not in (signal.SIG_IGN, None)}
    first = float("inf")

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first == float("inf"):
            first = now
            ask_to_stop(number)
        elif now - first >= _SAME_REQUEST:
            earlier = before[signal.Signals(number)]
            if callable(earlier):
                earlier(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
