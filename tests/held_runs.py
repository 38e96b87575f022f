"""Runs of the model that wait until a test lets them go on."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from vlt.serving.worker import Worker
from vlt.token_encoder import TokenEncoder

PATIENCE = 20  # seconds


class HeldRuns:
    """Makes the runs of workers wait, and no others.

    Attributes
    ----------
    begun : threading.Event
        A run waits.
    go : threading.Event
        To be set: all runs go on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        run = TokenEncoder._run

        def hold(*arguments: Any) -> None:
            if isinstance(threading.current_thread(), Worker):
                self.begun.set()
                assert self.go.wait(PATIENCE)
            run(*arguments)

        monkeypatch.setattr(TokenEncoder, "_run", hold)
