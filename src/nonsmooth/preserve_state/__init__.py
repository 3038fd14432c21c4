"""Measure without leaving a trace: what a model's forward pass changes is put back, also after an exception."""

from nonsmooth.preserve_state.lock import measurement_lock
from nonsmooth.preserve_state.module_calls import modules_seen
from nonsmooth.preserve_state.preserved import PreservedState, preserve_state
from nonsmooth.preserve_state.random_state import RandomState

__all__ = ["PreservedState", "RandomState", "measurement_lock", "modules_seen", "preserve_state"]
