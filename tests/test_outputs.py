"""What a run gives with each head, on token ids; what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_gpu import CudaArray, FakeGpu
from headed_models import apply_head, sparse_rows
from model_folders import VOCABULARY

import vlt

IDS = [[2, 60, 61, 3], [2, 3], [], [2, 70, 4, 90, 3]]
PLACES = [0, 3, 8]
EPS = float(np.finfo(np.float32).eps)

# Output -> the head and the name of the file that has it.
CASES = {
    "logits": ("sequence_head", "moods"),
    "token_logits": ("token_head", "tags"),
    "vocabulary": ("vocabulary_head", "words"),
    "sparse": ("vocabulary_head", "splade"),
}


def run(encoder: vlt.Encoder, output: Any, ids: Any = IDS, **options: Any) -> Any:
    """The output's numbers, packed or not."""
    result = encoder.run(ids, output=output, **options)
    return result.values if isinstance(result, vlt.PackedArray) else result


@pytest.mark.parametrize("output", CASES)
def test_output_is_what_its_head_makes_of_the_states(
    headed: Callable[..., Path], output: str
) -> None:
    key, name = CASES[output]
    path, ids = headed(name), [row for row in IDS if row]
    with vlt.Encoder(path) as encoder:
        assert output in encoder.outputs
        options = {"chosen": PLACES} if output == "vocabulary" else {}
        found = run(encoder, output, ids, **options)
        states = encoder.run(ids)
        expected = apply_head(path, key, states)
        if output == "sparse":
            expected = sparse_rows(expected, states)
        if options:
            expected = expected[PLACES]
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    # Sums of 32 products, thrice; each loses less than 32 eps of its largest.
    bound = 3 * 32 * EPS * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("output", ["logits", "token_logits", "sparse"])
def test_a_sequence_alone_equals_itself_in_a_batch(
    headed: Callable[..., Path], output: str
) -> None:
    with vlt.Encoder(headed(CASES[output][1])) as encoder:
        together = encoder.run(IDS, output=output)  # type: ignore[arg-type]
        for index in (0, 1, 3):
            alone = encoder.run([IDS[index]], output=output)  # type: ignore[arg-type]
            assert alone[0].tobytes() == together[index].tobytes()


def test_empty_sequences_and_batches(headed: Callable[..., Path]) -> None:
    with vlt.Encoder(headed("splade")) as encoder:
        sparse = encoder.run([[], IDS[0]], output="sparse")
        assert not sparse[0].any()
        assert sparse[1].any()
        words = len(VOCABULARY)
        assert encoder.run([], output="sparse").shape == (0, words)
        assert encoder.run(IDS, output="vocabulary", chosen=[]).shape == (0, words)
    with vlt.Encoder(headed("tags")) as encoder:
        labels = encoder.run([[], IDS[0]], output="token_logits")
        assert labels.lengths == [0, 4]
        assert labels[1].shape == (4, 5)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("logits", "output 'logits' needs .*sequence head.*it gives 'hidden', 'embedding'"),
        ("token_logits", "token head"),
        ("vocabulary", "vocabulary head"),
        ("sparse", "vocabulary head that makes sparse embeddings"),
    ],
)
def test_lacking_head_is_named(tiny_encoder: vlt.Encoder, output: Any, words: str) -> None:
    assert tiny_encoder.outputs == ["hidden", "embedding"]
    with pytest.raises(vlt.UnsupportedError, match=words):
        tiny_encoder.run(IDS, output=output)
    with pytest.raises(vlt.UnsupportedError, match=words):
        tiny_encoder.run_packed(np.zeros(0, np.int32), np.zeros(1, np.int32), output=output)


@pytest.mark.parametrize(
    ("output", "chosen", "words"),
    [
        ("vocabulary", None, "needs chosen"),
        ("hidden", [0], "with no other, not with 'hidden'"),
        ("vocabulary", [11], "0 ... 10, not 11"),
        ("vocabulary", [-1], "not -1"),
        ("vocabulary", [1, 1], "1 follows 1"),
        ("vocabulary", [2, 1], "1 follows 2"),
        ("vocabulary", [0.5], "float64"),
        ("vocabulary", [[0]], r"\(1, 1\)"),
    ],
)
def test_wrong_choices_are_refused(
    headed: Callable[..., Path], output: Any, chosen: Any, words: str
) -> None:
    with vlt.Encoder(headed("words")) as encoder:
        with pytest.raises(ValueError, match=words):
            encoder.run(IDS, output=output, chosen=chosen)
        assert len(encoder.run(IDS, output="vocabulary", chosen=[10])) == 1


# ---- Packed arrays -------------------------------------------------------------------------------


@pytest.mark.parametrize("output", CASES)
def test_packed_arrays_give_the_same(headed: Callable[..., Path], output: Any) -> None:
    packed = vlt.pack(IDS)
    options: dict[str, Any] = {"chosen": PLACES} if output == "vocabulary" else {}
    with vlt.Encoder(headed(CASES[output][1])) as encoder:
        expected = run(encoder, output, **options)
        found = encoder.run_packed(packed.values, packed.starts, output=output, **options)
        assert found.tobytes() == expected.tobytes()
        out = np.zeros_like(expected)
        encoder.run_packed(packed.values, packed.starts, output=output, out=out, **options)
        assert out.tobytes() == expected.tobytes()
        with pytest.raises(ValueError, match="shape"):
            encoder.run_packed(
                packed.values, packed.starts, output=output, out=out[:, :1].copy(), **options
            )
        with pytest.raises(ValueError, match="can be float32, not float16"):
            encoder.run_packed(
                packed.values, packed.starts, output=output, dtype="float16", **options
            )


@pytest.mark.parametrize("output", CASES)
def test_on_a_gpu_the_host_has_all_and_the_device_some(
    headed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, output: Any
) -> None:
    path = headed(CASES[output][1])
    FakeGpu(monkeypatch)
    packed = vlt.pack(IDS)
    options: dict[str, Any] = {"chosen": PLACES} if output == "vocabulary" else {}
    with vlt.Encoder(path, "cuda") as encoder:
        expected = encoder.run_packed(packed.values, packed.starts, output=output, **options)
        there = CudaArray(packed.values), CudaArray(packed.starts)
        out = CudaArray(np.zeros_like(expected))
        if output == "logits":
            assert encoder.run_packed(*there, output=output).numpy().tobytes() == expected.tobytes()
            encoder.run_packed(packed.values, packed.starts, output=output, out=out)
            assert out.array.tobytes() == expected.tobytes()
            return
        with pytest.raises(vlt.UnsupportedError, match="token_ids is on a CUDA device.*'logits'"):
            encoder.run_packed(*there, output=output, **options)
        with pytest.raises(vlt.UnsupportedError, match="out is on a CUDA device"):
            encoder.run_packed(packed.values, packed.starts, output=output, out=out, **options)


# ---- Weights in memory ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, np.frombuffer])
def test_weights_in_memory(
    tiny_weights: Path, tiny_encoder: vlt.Encoder, form: Callable[..., Any]
) -> None:
    content = tiny_weights.read_bytes()
    source = form(content, np.uint8) if form is np.frombuffer else form(content)
    with vlt.Encoder(source) as encoder:
        assert encoder.encode("banana").tobytes() == tiny_encoder.encode("banana").tobytes()
        assert "weights in memory" in repr(encoder)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (np.zeros(4), "array of float64"),
        (np.zeros((2, 2), np.uint8), r"\(2, 2\)"),
        (7, "not int"),
        (None, "not NoneType"),
    ],
)
def test_what_is_no_weights_is_refused(source: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        vlt.Encoder(source)


def test_bytes_of_something_else_are_refused() -> None:
    with pytest.raises(vlt.FileError):
        vlt.Encoder(b"not weights at all")


def test_weights_of_a_model_in_memory(
    tiny_weights: Path, tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`from_transformers` hands the model to the converter and the options to the encoder."""
    seen: list[Any] = []

    def convert_model(model: Any) -> Any:
        seen.append(model)
        return np.fromfile(tiny_weights, np.uint8)

    monkeypatch.setattr("vlt.converter.convert_model", convert_model)
    with vlt.from_transformers("a model", device="cpu", num_threads=1) as encoder:
        assert run(encoder, "hidden").tobytes() == run(tiny_encoder, "hidden").tobytes()
    assert seen == ["a model"]
