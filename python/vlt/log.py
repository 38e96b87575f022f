"""What the library says besides errors, in Python's own logging."""

from __future__ import annotations

import atexit
import logging

from . import _native
from .errors import InvalidArgumentError

_PYTHON_LEVELS = {1: logging.WARNING, 2: logging.INFO, 3: logging.DEBUG}


def enable_logging(level: str = "info", logger: logging.Logger | None = None) -> None:
    """Pass the library's messages on to Python's logging; off unless asked for.

    Parameters
    ----------
    level
        "warning": what a caller should know; "info": also what is loaded and created, and the
        device it went to; "debug": also how workspaces grow and batches are cut.
    logger
        Where they go, `logging.getLogger("vlt")` by default. Its own level and handlers apply.

    Raises
    ------
    InvalidArgumentError
        No such level.
    """
    if level not in _native.LOG_LEVELS:
        names = ", ".join(_native.LOG_LEVELS)
        raise InvalidArgumentError(f"level is {level!r}; it must be one of {names}")
    target = logging.getLogger("vlt") if logger is None else logger
    _native.set_log(lambda number, text: target.log(_PYTHON_LEVELS[number], "%s", text), level)
    atexit.register(disable_logging)  # before the interpreter that would be called is gone


def disable_logging() -> None:
    """Silence, as before `enable_logging`."""
    _native.set_log(None, "warning")
    atexit.unregister(disable_logging)
