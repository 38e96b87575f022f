"""Weights files that must load: every freedom of the format, and weights of every type."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile.build import Parts, Tensor, encode, good_file, parts, tiny_metadata, tiny_tensors
from numpy.typing import NDArray

from vlt import pack
from vlt.errors import FileError
from vlt.handles import Model, Session


def load(content: bytes) -> Model:
    return Model(np.frombuffer(content, np.uint8), device="cpu")


def hidden(model: Model, ids: list[int]) -> NDArray[np.float32]:
    """The states [T, H] of sequences of one token each."""
    packed = pack([[token] for token in ids])
    out = np.empty((len(ids), model.info["hidden_size"]), np.float32)
    Session(model, num_threads=1).run(packed, "hidden", out)
    return out


def with_metadata(**changes: str) -> Callable[[], bytes]:
    return lambda: parts(tiny_metadata() | changes).encode()


def without(key: str, *tensors: str, **changes: str) -> Callable[[], bytes]:
    """The good file without a metadata key ("" for none) and without some tensors."""

    def build() -> bytes:
        metadata = {k: v for k, v in (tiny_metadata() | changes).items() if k != key}
        kept = {k: v for k, v in tiny_tensors().items() if k not in tensors}
        return parts(metadata, kept).encode()

    return build


def with_header(change: Callable[[Parts], bytes]) -> Callable[[], bytes]:
    """The good file with its header written in another way."""
    return lambda: encode(change(parts()), parts().data)


def escaped(good: Parts) -> bytes:
    """Every character of every string as an escape."""

    def escape(match: re.Match[bytes]) -> bytes:
        return b'"' + b"".join(b"\\u%04X" % byte for byte in match[1]) + b'"'

    return re.sub(rb'"([^"]*)"', escape, good.header())


def reordered(good: Parts) -> bytes:
    """Entries backwards, fields backwards, metadata last."""
    content = {
        name: dict(reversed(list(entry.items())))
        for name, entry in reversed(list(good.entries.items()))
    }
    return json.dumps({**content, "__metadata__": good.metadata}).encode()


def empty_pad() -> bytes:
    """A tensor without bytes shares its begin with the tensor after it."""
    changed = parts()
    changed.entries["_pad.2147483647"] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    return changed.encode()


ALL_OPTIONAL = {
    "max_length": "6",
    "pooling_include_prompt": "false",
    "lower_case": "true",
    "default_prompt": "query",
    "similarity": "manhattan",
    "name": "tiny",
    "created_by": "the tests",
    "x.": "",
}
ACCEPTED: dict[str, Callable[[], bytes]] = {
    "good": good_file,
    "every-optional-key": with_metadata(**ALL_OPTIONAL),
    "no-head": without("embedding_head", "head.dense.0.weight", "head.dense.0.bias"),
    "no-dense-bias": without("", "head.dense.0.bias"),
    "no-tokenizer": without("", "tokenizer.json"),
    "no-token-types": without("", "embeddings.token_type", num_token_types="0"),
    "all-poolings": without(
        "",
        "head.dense.0.weight",
        "head.dense.0.bias",
        embedding_head="pool:cls+lasttoken+max+mean+mean_sqrt_len+weightedmean",
    ),
    "sixty-four-steps": with_metadata(
        embedding_head="pool:mean dense:0:sigmoid" + " normalize" * 62
    ),
    "last-row": with_metadata(position_offset="5"),
    "eps-plain": with_metadata(norm_eps="0.00001"),
    "escapes": with_header(escaped),
    "reordered": with_header(reordered),
    "indented": with_header(
        lambda good: json.dumps(json.loads(good.header()), indent="\t").encode()
    ),
    "much-padding": with_header(lambda good: good.header() + b" " * 100_000),
    "empty-pad": empty_pad,
}


@pytest.mark.parametrize("build", ACCEPTED.values(), ids=list(ACCEPTED))
def test_accepted(build: Callable[[], bytes]) -> None:
    model = load(build())
    states = hidden(model, [0, 9])
    assert states.shape == (2, 4)
    assert np.isfinite(states).all()


def test_sizes() -> None:
    info = load(with_metadata(position_offset="2")()).info
    assert {key: info[key] for key in ("num_layers", "hidden_size", "num_heads", "head_size")} == {
        "num_layers": 1,
        "hidden_size": 4,
        "num_heads": 2,
        "head_size": 2,
    }
    assert (info["vocab_size"], info["num_token_types"], info["max_length"]) == (10, 2, 4)
    assert (info["intermediate_size"], info["embedding_size"]) == (8, 3)


@pytest.mark.parametrize("ensure_ascii", [True, False], ids=["escaped", "utf-8"])
def test_metadata_is_read_exactly(ensure_ascii: bool) -> None:
    """Every kind of escape, and one to four bytes of UTF-8 up to the ends of their ranges."""
    text = '"\\/\b\f\n\r\t\x01\x1f \x7f é߿ࠀ€\ud7ff\ue000\uffff \U00010000 \U0001f600 \U0010ffff'
    metadata = tiny_metadata() | {"x.text": text, "x.é": "key"}
    changed = parts(metadata)
    content = {"__metadata__": metadata, **changed.entries}
    header = json.dumps(content, ensure_ascii=ensure_ascii).encode()
    model = load(encode(header, changed.data))
    assert model.metadata == metadata
    assert list(model.metadata) == list(metadata)


def test_tokenizer_is_read_exactly() -> None:
    content = bytes(range(256)) * 5
    tensors = tiny_tensors() | {"tokenizer.json": Tensor("U8", [len(content)], content)}
    assert load(parts(tensors=tensors).encode()).tokenizer() == content
    assert load(without("", "tokenizer.json")()).tokenizer() is None


def every_finite(exponent_mask: int) -> NDArray[np.uint16]:
    """Every 16-bit pattern whose exponent is not all ones, in rows of four (H)."""
    bits = np.arange(65536, dtype=np.uint16)
    return bits[(bits & exponent_mask) != exponent_mask].reshape(-1, 4)


def table(dtype: str, stored: NDArray[np.uint16] | NDArray[np.float32]) -> Tensor:
    return Tensor(dtype, list(stored.shape), stored.tobytes())


HALVES = every_finite(0x7C00)
BRAINS = every_finite(0x7F80)
WIDENED = {
    "F16": (HALVES, HALVES.view(np.float16).astype(np.float32)),
    "BF16": (BRAINS, (BRAINS.astype(np.uint32) << 16).view(np.float32)),
}


@pytest.mark.parametrize("dtype", list(WIDENED))
def test_sixteen_bit_weights_are_widened_exactly(dtype: str) -> None:
    """A word table of every finite number there is gives the bits of the same table in float32."""
    stored, wide = WIDENED[dtype]
    metadata = tiny_metadata() | {"vocab_size": str(len(stored))}
    results = []
    for word in (table(dtype, stored), table("F32", wide)):
        # Only the word embedding counts: a tiny number would vanish in the sum with others.
        zeros = {k: Tensor("F32", v.shape, bytes(len(v.data))) for k, v in tiny_tensors().items()}
        ones = Tensor("F32", [4], np.ones(4, np.float32).tobytes())
        scales = {k: ones for k in zeros if k.endswith("norm.weight")}
        kept = {"tokenizer.json": tiny_tensors()["tokenizer.json"]}
        model = load(parts(metadata, zeros | scales | kept | {"embeddings.word": word}).encode())
        results.append(hidden(model, list(range(len(stored)))))
    np.testing.assert_array_equal(results[0].view(np.uint32), results[1].view(np.uint32))
    assert np.count_nonzero(results[0]) > 0.75 * stored.size  # it is no comparison of zeros


def fails_to_load(path: str | Path) -> str:
    with pytest.raises(FileError) as caught:
        Model(str(path), device="cpu")
    return str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    message = fails_to_load(tmp_path / "absent.bin")
    assert str(tmp_path / "absent.bin") in message
    assert "No such file" in message


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in fails_to_load(tmp_path)


def test_pipe(tmp_path: Path) -> None:
    """Opening a pipe without a writer must not wait for one."""
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe" in fails_to_load(tmp_path / "pipe")


def test_device() -> None:
    assert "a device" in fails_to_load("/dev/null")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "secret.bin"
    path.write_bytes(good_file())
    path.chmod(0)
    assert "Permission denied" in fails_to_load(path)


def test_path_of_any_bytes(tmp_path: Path) -> None:
    """A path need not be UTF-8, and a long one is named whole."""
    path = tmp_path / (os.fsdecode(b"caf\xe9") + "x" * 200)
    assert "caf\\xe9" + "x" * 200 in fails_to_load(path)
    path.write_bytes(good_file())
    assert Model(str(path), device="cpu").info["hidden_size"] == 4
