"""Ctrl-C during a long call into the library."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

# How long to wait before cancelling again: a cancel that comes before the run starts is lost.
CANCEL_SECONDS = 0.02

Result = TypeVar("Result")


def run_interruptibly(call: Callable[[], Result], cancel: Callable[[], None]) -> Result:
    """Run `call` on another thread; an exception in this one, Ctrl-C above all, cancels it.

    Python's signal handlers wait while the main thread is inside the library; here it is not.
    """
    worker = ThreadPoolExecutor(1, thread_name_prefix="vlt-run")
    try:
        run = worker.submit(call)
    except RuntimeError:  # no room for a thread; better a run that Ctrl-C has to wait for
        return call()
    try:
        return run.result()
    except BaseException:
        while not run.done():
            cancel()
            wait([run], CANCEL_SECONDS)
        raise
    finally:
        worker.shutdown(wait=False)
