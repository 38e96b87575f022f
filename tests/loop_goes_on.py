"""Whether asynchronous calls of an integration leave the event loop free."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from vlt.token_encoder import TokenEncoder

PATIENCE = 20  # seconds until a loop that never goes on fails the test


def result_while_the_loop_goes_on(
    call: Callable[[], Coroutine[Any, Any, Any]], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """What `call` gives, if every run of the model inside it waits for the loop to do other work.

    A call that runs the model on the loop's own thread waits for itself, and fails.
    """
    went_on = threading.Event()
    run = TokenEncoder._run

    def wait_and_run(*arguments: Any) -> None:
        assert went_on.wait(PATIENCE), "the loop stood still while the model ran"
        run(*arguments)

    async def call_and_go_on() -> Any:
        task = asyncio.create_task(call())
        await asyncio.sleep(0)  # the call begins
        asyncio.get_running_loop().call_soon(went_on.set)
        return await task

    with monkeypatch.context() as patch:
        patch.setattr(TokenEncoder, "_run", wait_and_run)
        result = asyncio.run(call_and_go_on())
    assert went_on.is_set()
    return result
