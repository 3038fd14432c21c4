"""What can go wrong in the lab itself, as opposed to in a measurement."""

from __future__ import annotations


class LabError(RuntimeError):
    """The lab cannot go on: a full disk, a folder in use, a worker that was killed. Stored records are kept."""


class Interrupted(KeyboardInterrupt):
    """The run was asked to stop; what was finished is stored and the same call goes on from there.

    Attributes:
        signal_number: the signal that asked, such as `signal.SIGINT` or `signal.SIGTERM`.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
