"""The exceptions of vlt: one class for each kind of failure, all under `VltError`."""

from __future__ import annotations


class VltError(Exception):
    """Base of every exception that vlt itself raises."""


class Error(VltError, RuntimeError):
    """The library or the device failed; a bug in vlt or in the machine, not in the call."""


class InvalidArgumentError(VltError, ValueError):
    """A value in the call breaks a rule; the message names it and says what would be right."""


class OutOfMemoryError(VltError, MemoryError):
    """There was not enough memory; the encoder stays usable."""


class FileError(VltError, OSError):
    """A file or a folder is missing, unreadable, or not what it should be."""


class UnsupportedError(VltError, RuntimeError):
    """A valid request, but not for this build, device or model."""


class CancelledError(VltError, RuntimeError):
    """The run was stopped by `Encoder.cancel`. Ctrl-C raises KeyboardInterrupt instead."""


class OverloadedError(VltError, RuntimeError):
    """The queue is full, so the work was refused at once; try again later."""


class DeadlineError(VltError, TimeoutError):
    """The work was not done within its time; it has left the queue."""


class ClosedError(VltError, RuntimeError):
    """The encoder is closed or closing, and takes no more work."""
