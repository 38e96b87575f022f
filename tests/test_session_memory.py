"""A session's workspace: sized before the run, steady, within its limit, from the caller's memory.

Through the C interface, on tiny models: one with mean pooling alone and one with dense head steps,
whose buffers grow with the number of sequences.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from ctypes import c_void_p
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folders import add_sentence_transformers, write_bert_folder
from native_sessions import CallerMemory, batch_of, embed, open_session, size_of, stats_of
from tiny_model import TINY_MAX_LENGTH

import vlt
from vlt import _native
from vlt.handles import Model
from vlt.packing import PackedIds

PAGE = 4096
DENSE_SIZE = 700  # as wide as 20 tokens' states, so that many sequences show

THREADS = pytest.mark.parametrize("num_threads", [1, 2])
BOTH_HEADS = pytest.mark.parametrize("head", ["pooled", "dense"])


@pytest.fixture(scope="module")
def models(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    folder = write_bert_folder(
        tmp_path_factory.mktemp("dense") / "model",
        seed=2,
        num_layers=2,
        hidden_size=32,
        num_heads=4,
        intermediate_size=80,
        max_positions=TINY_MAX_LENGTH,
    )
    identity = "torch.nn.modules.linear.Identity"
    dense = [(32, DENSE_SIZE, identity, True), (DENSE_SIZE, 24, identity, True)]
    add_sentence_transformers(folder, dense=dense)
    weights = {"pooled": tiny_weights, "dense": vlt.convert(folder, folder.with_suffix(".bin"))}
    return {name: Model(str(path)) for name, path in weights.items()}


# ---- Sizes ---------------------------------------------------------------------------------------

LENGTHS = st.lists(st.integers(0, TINY_MAX_LENGTH), max_size=40) | st.lists(
    st.integers(0, 2), max_size=300
)
BOUNDS = st.tuples(st.integers(0, 200_000), st.integers(0, 5000), st.integers(0, TINY_MAX_LENGTH))


@THREADS
@BOTH_HEADS
@settings(max_examples=100, deadline=None)
@given(BOUNDS, BOUNDS)
def test_workspace_bytes_never_fall(
    models: dict[str, Model],
    head: str,
    num_threads: int,
    one: tuple[int, int, int],
    other: tuple[int, int, int],
) -> None:
    small = [min(pair) for pair in zip(one, other, strict=True)]
    large = [max(pair) for pair in zip(one, other, strict=True)]
    with open_session(models[head], num_threads) as session:
        for grown in range(3):
            bound = [*large[: grown + 1], *small[grown + 1 :]]
            shrunk = [*large[:grown], *small[grown:]]
            assert _native.session_workspace_bytes(
                session, *shrunk
            ) <= _native.session_workspace_bytes(session, *bound)
        assert stats_of(session)["held_bytes"] == 0  # pure arithmetic


@THREADS
@BOTH_HEADS
@settings(max_examples=100, deadline=None)
@given(LENGTHS)
def test_no_run_needs_more_than_workspace_bytes(
    models: dict[str, Model], head: str, num_threads: int, lengths: list[int]
) -> None:
    ids = batch_of(lengths)
    with open_session(models[head], num_threads) as session:
        embed(models[head], session, ids)
        stats = stats_of(session)
        size = _native.session_workspace_bytes(session, *size_of(ids))
        assert 0 < stats["planned_peak_bytes"] <= min(size, stats["held_bytes"])


@THREADS
@BOTH_HEADS
def test_reserved_batches_never_allocate(
    models: dict[str, Model], head: str, num_threads: int
) -> None:
    rng = np.random.default_rng(7)
    with open_session(models[head], num_threads) as session:
        _native.session_reserve(session, 2000, 200, TINY_MAX_LENGTH)
        reserved = stats_of(session)
        for _ in range(200):
            longest = int(rng.integers(1, TINY_MAX_LENGTH + 1))
            lengths = rng.integers(0, longest + 1, rng.integers(1, 201))
            embed(models[head], session, batch_of(lengths[np.cumsum(lengths) <= 2000].tolist()))
        stats = stats_of(session)
    assert stats["runs"] == 200
    for name in ("held_bytes", "peak_held_bytes", "system_allocations", "releases"):
        assert stats[name] == reserved[name], name


# ---- Limits --------------------------------------------------------------------------------------


@THREADS
@BOTH_HEADS
@settings(max_examples=100, deadline=None)
@given(LENGTHS, st.integers(1, 60 * PAGE), st.booleans(), st.booleans())
def test_limit_is_kept(
    models: dict[str, Model],
    head: str,
    num_threads: int,
    lengths: list[int],
    limit: int,
    reserve: bool,
    callers_memory: bool,
) -> None:
    """A batch over the limit is run in parts, with the same bits; only a sequence is refused."""
    model, ids = models[head], batch_of(lengths)
    longest = size_of(ids)[2]
    memory = CallerMemory() if callers_memory else None
    with open_session(model) as free, open_session(model, num_threads, limit, memory) as limited:
        expected = embed(model, free, ids)
        fits = _native.session_workspace_bytes(free, max(longest, 1), 1, longest) <= limit
        if reserve:
            _native.session_reserve(limited, *size_of(ids))
        for _ in range(2):
            if fits:
                assert embed(model, limited, ids) == expected
            else:
                with pytest.raises(MemoryError, match=f"{longest} tokens.*limit is {limit}"):
                    embed(model, limited, ids)
        assert stats_of(limited)["peak_held_bytes"] <= limit


@THREADS
@BOTH_HEADS
def test_limit_in_the_message_is_enough(
    models: dict[str, Model], head: str, num_threads: int
) -> None:
    model, ids = models[head], batch_of([TINY_MAX_LENGTH, 3, 9])
    with open_session(model, num_threads, limit=1) as session:
        words = f"a sequence of {TINY_MAX_LENGTH} tokens needs (\\d+) bytes.*limit is 1$"
        with pytest.raises(MemoryError, match=words) as caught:
            embed(model, session, ids)
    found = re.search(words, str(caught.value))
    assert found is not None
    needed = int(found[1])
    with open_session(model) as free, open_session(model, num_threads, needed) as enough:
        assert embed(model, enough, ids) == embed(model, free, ids)
    with open_session(model, num_threads, needed - 1) as too_little:
        with pytest.raises(MemoryError, match=f"needs {needed} bytes.*limit is {needed - 1}$"):
            embed(model, too_little, ids)
        assert len(embed(model, too_little, batch_of([2]))) > 0


# ---- The caller's memory -------------------------------------------------------------------------

SMALL, LARGE = batch_of([3, 0, 9]), batch_of([TINY_MAX_LENGTH] * 40)
EVENTFUL = [SMALL, LARGE, *[SMALL] * 40, LARGE]  # grows, is given back, grows again


@THREADS
@BOTH_HEADS
def test_workspace_is_the_callers_memory(
    models: dict[str, Model], head: str, num_threads: int
) -> None:
    model, memory = models[head], CallerMemory()
    with open_session(model) as plain, open_session(model, num_threads, memory=memory) as session:
        for ids in EVENTFUL:
            assert embed(model, session, ids) == embed(model, plain, ids)
            assert stats_of(session)["held_bytes"] == memory.num_bytes
        assert stats_of(session)["releases"] == 1
        assert stats_of(session)["system_allocations"] == memory.calls
        _native.session_reserve(session, 10_000, 500, TINY_MAX_LENGTH)
        assert stats_of(session)["held_bytes"] == memory.num_bytes
    assert memory.num_bytes == 0
    assert not memory.complaints


@THREADS
@pytest.mark.parametrize("fail_count", [1, 2, 3])
def test_a_refusal_anywhere_leaves_the_session_usable(
    models: dict[str, Model], num_threads: int, fail_count: int
) -> None:
    model, counting = models["pooled"], CallerMemory()
    with open_session(model, num_threads, memory=counting) as session:
        _native.session_reserve(session, 100, 10, 10)
        expected = [embed(model, session, ids) for ids in EVENTFUL]
    refused = 0
    for fail_at in range(1, counting.calls + 1):
        memory = CallerMemory(fail_at, fail_count)
        with open_session(model, num_threads, memory=memory) as session:

            def reserve(session: c_void_p = session) -> bytes:
                _native.session_reserve(session, 100, 10, 10)
                return b""

            refused += attempts_until_given(reserve, b"", fail_count)
            for ids, bits in zip(EVENTFUL, expected, strict=True):

                def run(session: c_void_p = session, ids: PackedIds = ids) -> bytes:
                    return embed(model, session, ids)

                refused += attempts_until_given(run, bits, fail_count)
                assert stats_of(session)["held_bytes"] == memory.num_bytes
        assert memory.num_bytes == 0
        assert not memory.complaints
    assert refused > 0


def attempts_until_given(call: Callable[[], bytes], expected: bytes, most: int) -> int:
    """How often `call` ran out of memory before it gave what is expected."""
    for refused in range(most + 1):
        try:
            assert call() == expected
            return refused
        except MemoryError as error:
            assert re.search(r"no memory .* \d+ bytes", str(error)), error
    raise AssertionError(f"refused {most + 1} times where the memory refused {most}")


@pytest.mark.parametrize("name", ["allocate", "release"])
def test_half_an_allocator_is_refused(models: dict[str, Model], name: str) -> None:
    memory = CallerMemory()
    setattr(memory.struct, name, type(getattr(memory.struct, name))())
    with (
        pytest.raises(vlt.InvalidArgumentError, match=name),
        open_session(models["pooled"], memory=memory),
    ):
        pass
