"""Token ids in, states out; bad input gives a clear error and loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from model_folders import VOCABULARY, write_bert_folder
from tiny_model import TINY_MAX_LENGTH

import vlt
from vlt.handles import Model, Session
from vlt.sessions import SessionPool

IDS = [[2, 60, 61, 3], [2, 3], [2, 70, 3]]
WORDS = len(VOCABULARY)


def bits(encoder: vlt.Encoder, ids: Any = IDS, **options: Any) -> bytes:
    """The states as bytes, to be compared to the bit."""
    return bytes(encoder.run(ids, **options).values.tobytes())


def run_python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds the same vlt."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


# ---- Results -------------------------------------------------------------------------------------


def test_states_are_packed(tiny_encoder: vlt.Encoder) -> None:
    states = tiny_encoder.run(IDS)
    assert states.lengths == [4, 2, 3]
    assert states.values.shape == (9, 32)
    assert states.values.dtype == np.float32
    assert states[0].shape == (4, 32)
    assert np.isfinite(states.values).all()


def test_a_sequence_alone_equals_itself_in_a_batch(tiny_encoder: vlt.Encoder) -> None:
    states = tiny_encoder.run(IDS)
    for row, ids in zip(states, IDS, strict=True):
        assert row.tobytes() == bits(tiny_encoder, [ids])


def test_every_form_of_ids_gives_the_same(tiny_encoder: vlt.Encoder) -> None:
    padded = np.zeros((3, 4), np.int64)
    for row, ids in zip(padded, IDS, strict=True):
        row[: len(ids)] = ids
    expected = bits(tiny_encoder)
    assert bits(tiny_encoder, padded, mask=padded > 0) == expected
    assert bits(tiny_encoder, padded, lengths=[4, 2, 3]) == expected
    assert bits(tiny_encoder, [word for ids in IDS for word in ids], lengths=[4, 2, 3]) == expected
    assert bits(tiny_encoder, vlt.pack(IDS)) == expected


def test_no_input_and_empty_sequences(tiny_encoder: vlt.Encoder) -> None:
    nothing = tiny_encoder.run([])
    assert nothing.values.shape == (0, 32)
    assert nothing.lengths == []
    assert tiny_encoder.run([], output="embedding").shape == (0, 32)
    states = tiny_encoder.run([[], IDS[0], []])
    assert states.lengths == [0, 4, 0]
    assert states[1].tobytes() == bits(tiny_encoder, [IDS[0]])
    embeddings = tiny_encoder.run([[], IDS[0]], output="embedding")
    assert not embeddings[0].any()
    assert embeddings[1].any()


def test_embedding_is_the_mean_state(tiny_encoder: vlt.Encoder) -> None:
    embeddings = tiny_encoder.run(IDS, output="embedding")
    means = [state.mean(axis=0) for state in tiny_encoder.run(IDS)]
    np.testing.assert_allclose(embeddings, means, rtol=0, atol=1e-5)


def test_pooling_starts_leave_the_head_out(tiny_encoder: vlt.Encoder) -> None:
    embeddings = tiny_encoder.run(IDS, output="embedding", pooling_starts=[2, 0, 3])
    states = tiny_encoder.run(IDS)
    expected = [states[0][2:].mean(axis=0), states[1].mean(axis=0), np.zeros(32)]
    np.testing.assert_allclose(embeddings, expected, rtol=0, atol=1e-5)


def test_token_types_matter(tiny_encoder: vlt.Encoder) -> None:
    zeros = [[0] * len(ids) for ids in IDS]
    assert bits(tiny_encoder, token_types=zeros) == bits(tiny_encoder)
    ones = [[0, 0, 1, 1], *zeros[1:]]
    assert bits(tiny_encoder, token_types=ones) != bits(tiny_encoder)


def test_longest_sequence_runs(tiny_encoder: vlt.Encoder) -> None:
    assert tiny_encoder.max_length == TINY_MAX_LENGTH
    assert tiny_encoder.run([[5] * TINY_MAX_LENGTH]).lengths == [TINY_MAX_LENGTH]


def test_properties(tiny_encoder: vlt.Encoder) -> None:
    assert (tiny_encoder.num_layers, tiny_encoder.hidden_size) == (2, 32)
    assert (tiny_encoder.embedding_size, tiny_encoder.vocab_size) == (32, WORDS)
    assert (tiny_encoder.device, tiny_encoder.dtype) == ("cpu", "float32")
    assert tiny_encoder.config["family"] == "bert"
    assert tiny_encoder.kernels in repr(tiny_encoder)
    assert tiny_encoder.weight_bytes >= 4 * WORDS * 32


def test_a_folder_gives_what_its_weights_file_gives(
    tiny_folder: Path, tiny_encoder: vlt.Encoder
) -> None:
    with vlt.Encoder(tiny_folder) as encoder:
        assert bits(encoder) == bits(tiny_encoder)


def test_memory_is_reported_and_reserved(tiny_weights: Path) -> None:
    with vlt.Encoder(tiny_weights) as encoder:
        encoder.reserve(num_tokens=500, num_sequences=20)
        before = encoder.memory_stats()
        encoder.run([[5] * 25] * 20)
        after = encoder.memory_stats()
    assert before["held_bytes"] > 0
    assert after["runs"] == before["runs"] + 1
    assert after["system_allocations"] == before["system_allocations"]
    assert 0 < after["planned_peak_bytes"] <= after["held_bytes"] <= after["peak_held_bytes"]


def test_reservation_holds_for_sessions_made_later(tiny_weights: Path) -> None:
    model = Model(str(tiny_weights))
    pool = SessionPool(lambda: Session(model, 1), capacity=2)
    pool.reserve(num_tokens=3000, num_sequences=100, max_length=64)
    once = pool.memory_stats()["system_allocations"]
    states = np.empty((2500, 32), np.float32)
    with pool.borrow() as first, pool.borrow() as second:
        assert first is not second
        for session in (first, second):
            session.run(vlt.pack([[5] * 25] * 100), "hidden", states)
            assert session.memory_stats()["system_allocations"] == once


def test_workspace_limit_changes_no_bit(tiny_weights: Path) -> None:
    ids = [[5 + i % 40, 6, 7 + i % 30] * (1 + i % 12) for i in range(60)]
    with vlt.Encoder(tiny_weights) as free, vlt.Encoder(tiny_weights, num_threads=1) as probe:
        expected = bits(free, ids)
        probe.reserve(100, 10)
        limit = probe.memory_stats()["held_bytes"]
    with vlt.Encoder(tiny_weights, workspace_limit=limit) as limited:
        assert bits(limited, ids) == expected
        assert limited.memory_stats()["peak_held_bytes"] <= limit
        assert limited.memory_stats()["parts"] > 1


# ---- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ({"ids": [[2, 3], [2, WORDS, 3]]}, ValueError, ["1", str(WORDS)]),
        ({"ids": [[2, -1]]}, ValueError, ["-1", "0"]),
        ({"ids": [[2, 2**31]]}, ValueError, ["sequence 0", "position 1", str(2**31)]),
        ({"ids": [[5], [5] * (TINY_MAX_LENGTH + 1)]}, ValueError, ["65", "64", "1"]),
        ({"ids": [[2.0, 3.0]]}, TypeError, ["2.0", "float"]),
        ({"ids": np.array([2.0])}, TypeError, ["float64"]),
        ({"ids": "a text"}, TypeError, ["a text", "str"]),
        ({"ids": [5, 6], "lengths": [1, 2]}, ValueError, ["2", "3"]),
        ({"ids": IDS, "output": "scores"}, ValueError, ["scores", "hidden", "embedding"]),
        ({"ids": IDS, "token_types": [[0] * 4, [0] * 2, [0] * 2]}, ValueError, ["sequence 2", "3"]),
        ({"ids": IDS, "token_types": [[0] * 4]}, ValueError, ["1 sequences", "3"]),
        ({"ids": [[2, 3]], "token_types": [[0, 2]]}, ValueError, ["2"]),
        ({"ids": [[2, 3]], "token_types": [[0, -1]]}, ValueError, ["-1"]),
        ({"ids": [[2, 3]], "token_types": [[0, 0.5]]}, TypeError, ["token_types", "0.5"]),
        ({"ids": IDS, "pooling_starts": [0, 0]}, ValueError, ["3 integers", "(2,)"]),
        ({"ids": IDS, "pooling_starts": [0, 3, 0]}, ValueError, ["sequence 1", "0 ... 2", "3"]),
        ({"ids": IDS, "pooling_starts": [0, 0, -1]}, ValueError, ["sequence 2", "-1"]),
        ({"ids": IDS, "pooling_starts": [0, 0, 0.5]}, ValueError, ["float64"]),
    ],
)
def test_bad_ids_are_refused(
    tiny_encoder: vlt.Encoder, call: dict[str, Any], error: type[Exception], words: list[str]
) -> None:
    before = bits(tiny_encoder)
    with pytest.raises(error) as caught:
        tiny_encoder.run(**call)
    assert not [word for word in words if word not in str(caught.value)], caught.value
    assert bits(tiny_encoder) == before


@pytest.mark.parametrize("starts", [[0, 3, 2, 9], [1, 4, 9], [0, 4, 8], [0, -1, 9]])
def test_wrong_starts_are_refused(tiny_encoder: vlt.Encoder, starts: list[int]) -> None:
    packed = vlt.PackedIds(vlt.pack(IDS).values, np.array(starts, np.int32))
    before = bits(tiny_encoder)
    with pytest.raises(vlt.InvalidArgumentError):
        tiny_encoder.run(packed)
    assert bits(tiny_encoder) == before


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"device": "cuda:999"}, vlt.UnsupportedError, "cuda:999: .*no CUDA|no NVIDIA|device"),
        ({"device": "tpu"}, ValueError, "'tpu'"),
        ({"device": "cuda:x"}, ValueError, "'cuda:x'"),
        ({"device": "cpu:1"}, vlt.VltError, "1"),
        ({"device": "cpu", "dtype": "float16"}, vlt.UnsupportedError, "(?i)float32"),
        ({"dtype": "int4"}, ValueError, "'int4'"),
        ({"num_threads": 0}, ValueError, "num_threads.*not 0"),
        ({"num_threads": 1025}, ValueError, "1025"),
        ({"num_threads": 2**32 + 1}, ValueError, str(2**32 + 1)),
        ({"num_threads": 1.5}, TypeError, "1.5"),
        ({"workspace_limit": -1}, ValueError, "-1"),
    ],
)
def test_bad_options_are_refused(
    tiny_weights: Path, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        vlt.Encoder(tiny_weights, **options)


def test_more_threads_than_cores(tiny_weights: Path, tiny_encoder: vlt.Encoder) -> None:
    with vlt.Encoder(tiny_weights, num_threads=64) as encoder:
        assert bits(encoder) == bits(tiny_encoder)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(vlt.FileError, match=r"nowhere.bin.*looked for"):
        vlt.Encoder(tmp_path / "nowhere.bin")
    with pytest.raises(OSError, match=r"nowhere\.bin"):
        vlt.Encoder(str(tmp_path / "nowhere.bin"))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_half_written_file_is_refused(tiny_weights: Path, tmp_path: Path, share: float) -> None:
    content = tiny_weights.read_bytes()
    path = tmp_path / "half.bin"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(vlt.FileError, match=r"half\.bin"):
        vlt.Encoder(path)


def test_folder_of_another_family_is_refused(tmp_path: Path) -> None:
    folder = write_bert_folder(
        tmp_path / "other",
        seed=1,
        num_layers=1,
        hidden_size=16,
        num_heads=2,
        intermediate_size=16,
        config={"model_type": "llama"},
    )
    with pytest.raises(vlt.VltError, match=r"llama.*bert"):
        vlt.Encoder(folder)


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(vlt.VltError, match=r"config\.json"):
        vlt.Encoder(tmp_path)


def test_limit_below_one_sequence(tiny_weights: Path, tiny_encoder: vlt.Encoder) -> None:
    """A sequence that does not fit the limit is refused; a shorter one still runs."""
    long, short = [[5] * TINY_MAX_LENGTH], [[5] * 2]
    sizes = [
        Session(tiny_encoder._model, 1).workspace_bytes(len(ids[0]), 1, len(ids[0]))
        for ids in (long, short)
    ]
    assert sizes[0] > sizes[1]
    with vlt.Encoder(tiny_weights, num_threads=1, workspace_limit=sizes[0] - 1) as encoder:
        with pytest.raises(MemoryError, match=f"{TINY_MAX_LENGTH} tokens.*limit is {sizes[0] - 1}"):
            encoder.run(long)
        assert bits(encoder, short) == bits(tiny_encoder, short)


OUT_OF_MEMORY = """
import resource, sys
import numpy as np, vlt
encoder = vlt.Encoder(sys.argv[1])
ids = vlt.pack(np.full((100, 64), 5, np.int32))
states = np.empty((100 * 64, 32), np.float32)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
try:
    encoder._run(ids, "hidden", states)
except vlt.OutOfMemoryError as error:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print("refused:", error)
encoder._run(ids, "hidden", states)
print("finite:", np.isfinite(states).all())
"""


def test_no_memory_for_a_batch(tiny_weights: Path) -> None:
    """With no address space left the run fails; with space again it works."""
    result = run_python(OUT_OF_MEMORY, str(tiny_weights))
    assert result.returncode == 0, result.stderr
    assert "refused: " in result.stdout
    assert result.stdout.endswith("finite: True\n")


def test_bad_reservations_are_refused(tiny_encoder: vlt.Encoder) -> None:
    with pytest.raises(ValueError, match=r"num_tokens.*not -1"):
        tiny_encoder.reserve(num_tokens=-1, num_sequences=1)
    with pytest.raises(ValueError, match=str(2**40)):
        tiny_encoder.reserve(num_tokens=2**40, num_sequences=1)


# ---- Life and threads ----------------------------------------------------------------------------


def test_closed_encoder_says_so(tiny_weights: Path) -> None:
    with vlt.Encoder(tiny_weights) as encoder:
        states = encoder.run(IDS)
    encoder.close()
    for use in (lambda: encoder.run(IDS), encoder.memory_stats, lambda: encoder.encode("a")):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert np.isfinite(states.values).all()


@pytest.mark.parametrize("num_threads", [None, 1, 2])
def test_many_threads_get_the_same_bits(tiny_weights: Path, num_threads: int | None) -> None:
    rng = np.random.default_rng(3)
    batches = [
        [rng.integers(5, WORDS, rng.integers(0, 60)).tolist() for _ in range(rng.integers(1, 9))]
        for _ in range(40)
    ]
    with vlt.Encoder(tiny_weights, num_threads=num_threads) as encoder:
        alone = [bits(encoder, batch) for batch in batches]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda batch: bits(encoder, batch), batches * 3))
        assert together == alone * 3
        assert encoder.memory_stats()["runs"] == 160


def test_every_caller_gets_a_session_in_the_end() -> None:
    """Taking and giving back go without a lock; nobody may wait for what lies there."""
    made: list[Any] = []

    def create() -> Any:
        made.append(Mock())
        return made[-1]

    pool = SessionPool(create, capacity=2)
    in_use: list[Any] = []
    shared = []

    def work() -> None:
        for _ in range(3000):
            with pool.borrow() as session:
                shared.append(session in in_use)
                in_use.append(session)
                in_use.remove(session)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(6)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
    finally:
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads)
    assert len(shared) == 6 * 3000
    assert not any(shared)
    assert len(made) <= 2


def test_closing_waits_for_runs_of_other_threads(tiny_weights: Path) -> None:
    encoder = vlt.Encoder(tiny_weights)
    batch = [[5] * 60] * 200
    expected = bits(encoder, batch)
    results: list[bytes | str] = []

    def work() -> None:
        try:
            while True:
                results.append(bits(encoder, batch))
        except ValueError as error:
            results.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    encoder.close()
    for thread in threads:
        thread.join(timeout=30)
    closed = [result for result in results if isinstance(result, str)]
    assert len(closed) == 4
    assert all("closed" in message for message in closed)
    assert {result for result in results if isinstance(result, bytes)} <= {expected}


def test_cancel_stops_a_run(tiny_weights: Path) -> None:
    with vlt.Encoder(tiny_weights) as encoder:
        big = vlt.pack(np.full((20_000, 64), 5, np.int32))
        states = np.empty((len(big.values), 32), np.float32)
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(encoder._run, big, "hidden", states)
            while not run.done():
                encoder.cancel()
                time.sleep(0.01)
            with pytest.raises(vlt.CancelledError):
                run.result()
        assert encoder.run(IDS).lengths == [4, 2, 3]


INTERRUPTED = """
import sys, time
import numpy as np, vlt
encoder = vlt.Encoder(sys.argv[1])
big = vlt.pack(np.full((200_000, 64), 5, np.int32))
states = np.empty((len(big.values), 32), np.float32)
print("ready", flush=True)
try:
    encoder._run(big, "hidden", states)
except KeyboardInterrupt:
    print("interrupted", encoder.run([[2, 3]]).lengths)
"""


def test_ctrl_c_stops_a_run(tiny_weights: Path) -> None:
    """A run of minutes ends soon after SIGINT, and the encoder goes on working."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tiny_weights)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        assert process.stdout.read() == "interrupted [2]\n"
        assert time.monotonic() - begin < 5


# ---- Importing -----------------------------------------------------------------------------------


def test_import_is_light() -> None:
    code = "import sys, vlt; print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["tokenizers", "torch", "transformers", "vlt.converter", "vlt.cli", "asyncio"]
    assert run_python(code, *heavy).stdout == "[]\n"


def test_convert_stays_a_function() -> None:
    code = "import vlt, vlt.converter; print(callable(vlt.convert), vlt.converter.__name__)"
    assert run_python(code).stdout == "True vlt.converter\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "looked for at"), (b"not a library", "cannot be loaded")],
)
def test_library_that_is_not_there(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "libvlt.so"
    if content is not None:
        path.write_bytes(content)
    result = run_python("import vlt", VLT_LIBRARY=str(path))
    assert result.returncode == 1
    assert "ImportError" in result.stderr
    assert words in result.stderr
    assert str(path) in result.stderr


def test_library_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from vlt import _native

    monkeypatch.setattr(_native, "ABI_VERSION", _native.ABI_VERSION + 1)
    with pytest.raises(ImportError, match="ABI version 1, but this Python package needs 2"):
        _native.load_library(_native.library_path())
