"""Texts in, embeddings out: the parameters and results of sentence-transformers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import VOCABULARY, add_sentence_transformers, write_bert_folder
from tiny_model import PROMPTS, TINY_TEXT_LENGTH

import vlt
from vlt import blocks

TEXTS = [
    "a man is running",
    "the quick red machine",
    "",
    "what can one dog do under the water, every river in the world and you?",
    "banana",
    "banana",
]


def token_ids(words: str) -> list[int]:
    """Ids of words of the tiny vocabulary, with the special tokens."""
    return [VOCABULARY.index(word) for word in ["[CLS]", *words.split(), "[SEP]"]]


# ---- Plain embeddings ----------------------------------------------------------------------------


def test_encode_is_run_on_the_tokens(tiny_encoder: vlt.Encoder) -> None:
    ids = tiny_encoder.tokenize(TEXTS)
    assert ids[0] == token_ids("a man is running".replace("running", "run ##n ##i ##n ##g"))
    assert ids[2] == token_ids("")
    assert len(ids[3]) <= TINY_TEXT_LENGTH
    embeddings = tiny_encoder.encode(TEXTS)
    assert embeddings.shape == (6, 32)
    assert embeddings.dtype == np.float32
    assert embeddings.tobytes() == tiny_encoder.run(ids, output="embedding").tobytes()
    assert embeddings[4].tobytes() == embeddings[5].tobytes()


def test_one_text_gives_one_vector(tiny_encoder: vlt.Encoder) -> None:
    one = tiny_encoder.encode(TEXTS[3])
    assert one.shape == (32,)
    assert one.tobytes() == tiny_encoder.encode(TEXTS)[3].tobytes()
    assert tiny_encoder.tokenize("banana") == token_ids("banana")


@pytest.mark.parametrize("sentences", [tuple(TEXTS), np.array(TEXTS), iter(TEXTS)])
def test_other_collections(tiny_encoder: vlt.Encoder, sentences: Any) -> None:
    assert tiny_encoder.encode(sentences).tobytes() == tiny_encoder.encode(TEXTS).tobytes()


def test_no_texts(tiny_encoder: vlt.Encoder) -> None:
    assert tiny_encoder.encode([]).shape == (0, 32)
    assert tiny_encoder.encode([], truncate_dim=8, precision="int8").shape == (0, 8)
    assert tiny_encoder.encode([], precision="ubinary").shape == (0, 4)
    assert tiny_encoder.encode([], output_value="token_embeddings") == []
    assert tiny_encoder.tokenize([]) == []


def test_blocks_change_no_bit(tiny_encoder: vlt.Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = TEXTS * 30
    whole = tiny_encoder.encode(texts)
    tokens = tiny_encoder.encode(texts, output_value="token_embeddings")
    monkeypatch.setitem(blocks.BLOCK_CHARACTERS, "cpu", 100)
    assert len(blocks.split_texts(texts, TINY_TEXT_LENGTH)) > 20
    assert tiny_encoder.encode(texts, batch_size=1).tobytes() == whole.tobytes()
    again = tiny_encoder.encode(texts, output_value="token_embeddings")
    assert [a.tobytes() for a in again] == [t.tobytes() for t in tokens]


def test_split_covers_every_text_once() -> None:
    texts = ["x" * (index % 7 * 9000) for index in range(100)]
    slices = blocks.split_texts(texts, 4096)
    assert [text for part in slices for text in texts[part]] == texts
    assert blocks.split_texts([], 16) == []
    assert len(blocks.split_texts(texts, 4096, "cuda")) < len(slices)


def test_failure_in_a_later_block_is_raised(tiny_encoder: vlt.Encoder) -> None:
    def prepare(item: int) -> int:
        return 1 // (2 - item)

    results = blocks.prefetch(prepare, [0, 1, 2, 3])
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_pairs_are_one_sentence(tiny_encoder: vlt.Encoder) -> None:
    first, second = token_ids("a man"), token_ids("blue water")[1:]
    types = [[0] * len(first) + [1] * len(second)]
    expected = tiny_encoder.run([first + second], token_types=types, output="embedding")
    assert tiny_encoder.encode([("a man", "blue water")]).tobytes() == expected.tobytes()
    mixed = tiny_encoder.encode(np.array(["a man", ("a man", "blue water")], object))
    assert mixed[1].tobytes() == expected.tobytes()
    assert mixed[0].tobytes() == tiny_encoder.encode("a man").tobytes()


# ---- What is done to the vectors -----------------------------------------------------------------


def test_truncation_comes_before_normalising(tiny_encoder: vlt.Encoder) -> None:
    full = tiny_encoder.encode(TEXTS)
    short = tiny_encoder.encode(TEXTS, truncate_dim=8)
    assert short.tobytes() == np.ascontiguousarray(full[:, :8]).tobytes()
    unit = tiny_encoder.encode(TEXTS, truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(unit, short / np.linalg.norm(short, axis=1)[:, None], rtol=1e-5)
    assert tiny_encoder.encode(TEXTS, truncate_dim=99).shape == (6, 32)


def test_eight_bit_precision(tiny_encoder: vlt.Encoder) -> None:
    vectors = tiny_encoder.encode(TEXTS)
    unsigned = tiny_encoder.encode(TEXTS, precision="uint8")
    signed = tiny_encoder.encode(TEXTS, precision="int8")
    assert (unsigned.dtype, signed.dtype) == (np.uint8, np.int8)
    assert (signed.astype(int) + 128 == unsigned).all()
    low, high = vectors.min(axis=0), vectors.max(axis=0)
    restored = low + (unsigned + 0.5) * (high - low) / 255
    assert (np.abs(restored - vectors) <= 0.51 * (high - low) / 255).all()
    assert (unsigned[vectors.argmin(axis=0), range(32)] == 0).all()
    assert (unsigned[vectors.argmax(axis=0), range(32)] >= 254).all()  # 255 but for rounding
    with pytest.raises(ValueError, match="more than one"):
        tiny_encoder.encode("banana", precision="int8")


def test_binary_precision(tiny_encoder: vlt.Encoder) -> None:
    vectors = tiny_encoder.encode(TEXTS)
    unsigned = tiny_encoder.encode(TEXTS, precision="ubinary")
    signed = tiny_encoder.encode(TEXTS, precision="binary")
    assert unsigned.shape == (6, 4)
    assert (unsigned.dtype, signed.dtype) == (np.uint8, np.int8)
    assert (np.unpackbits(unsigned, axis=1) == (vectors > 0)).all()
    assert (signed.astype(int) + 128 == unsigned).all()
    assert tiny_encoder.encode("banana", precision="binary").shape == (4,)


def test_token_embeddings(tiny_encoder: vlt.Encoder) -> None:
    lists = tiny_encoder.encode(TEXTS, output_value="token_embeddings")
    states = tiny_encoder.run(tiny_encoder.tokenize(TEXTS))
    assert [a.tobytes() for a in lists] == [state.tobytes() for state in states]
    one = tiny_encoder.encode("banana", output_value="token_embeddings")
    assert one.shape == (3, 32)
    bytes_ = tiny_encoder.encode(TEXTS, output_value="token_embeddings", precision="uint8")
    assert [part.shape for part in bytes_] == [part.shape for part in lists]
    assert np.concatenate(bytes_).max() == 255


@pytest.mark.parametrize("kind", ["cosine", "dot", "euclidean", "manhattan"])
def test_similarity(tiny_encoder: vlt.Encoder, kind: str) -> None:
    vectors = tiny_encoder.encode(TEXTS[:4])
    a, b = vectors[:1].astype(np.float64), vectors.astype(np.float64)
    expected = {
        "cosine": a @ b.T / np.linalg.norm(a) / np.linalg.norm(b, axis=1),
        "dot": a @ b.T,
        "euclidean": -np.linalg.norm(b - a, axis=1)[None],
        "manhattan": -np.abs(b - a).sum(axis=1)[None],
    }[kind]
    scores = vlt.vectors.similarity(vectors[0], vectors, kind)
    assert scores.shape == (1, 4)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    assert tiny_encoder.similarity(vectors, vectors).shape == (4, 4)
    with pytest.raises(ValueError, match="'hamming'"):
        vlt.vectors.similarity(vectors, vectors, "hamming")
    with pytest.raises(ValueError, match="32 and 8"):
        tiny_encoder.similarity(vectors, vectors[:, :8])


# ---- Prompts -------------------------------------------------------------------------------------


def test_prompts_go_before_the_texts(tiny_encoder: vlt.Encoder) -> None:
    expected = tiny_encoder.encode([PROMPTS["query"] + text for text in TEXTS])
    for embeddings in (
        tiny_encoder.encode(TEXTS, prompt_name="query"),
        tiny_encoder.encode(TEXTS, prompt=PROMPTS["query"]),
        tiny_encoder.encode(TEXTS, "document", PROMPTS["query"]),
        tiny_encoder.encode_query(TEXTS),
    ):
        assert embeddings.tobytes() == expected.tobytes()
    documents = tiny_encoder.encode([PROMPTS["document"] + text for text in TEXTS])
    assert tiny_encoder.encode_document(TEXTS).tobytes() == documents.tobytes()
    assert tiny_encoder.encode_document(TEXTS, prompt="").tobytes() == bytes(
        tiny_encoder.encode(TEXTS).tobytes()
    )
    with pytest.raises(ValueError, match=r"'summary'.*'query', 'document', 'passage'"):
        tiny_encoder.encode(TEXTS, prompt_name="summary")


@pytest.fixture(scope="module")
def special_encoder(tmp_path_factory: pytest.TempPathFactory) -> vlt.Encoder:
    """A default prompt that is left out of pooling; texts are lower-cased."""
    folder = write_bert_folder(
        tmp_path_factory.mktemp("special") / "model",
        seed=2,
        num_layers=1,
        hidden_size=16,
        num_heads=2,
        intermediate_size=32,
    )
    add_sentence_transformers(
        folder,
        include_prompt=False,
        lower_case=True,
        normalize=True,
        dense=[(16, 8, "torch.nn.modules.activation.Tanh", True)],
        prompts=PROMPTS,
        default_prompt="query",
        similarity="dot",
    )
    return vlt.Encoder(folder)


def test_prompt_left_out_of_pooling(special_encoder: vlt.Encoder) -> None:
    ids = special_encoder.tokenize([PROMPTS["query"] + text for text in TEXTS])
    head = len(token_ids(PROMPTS["query"])) - 1  # [CLS] counts, [SEP] stands at the end
    expected = special_encoder.run(ids, output="embedding", pooling_starts=[head] * len(ids))
    embeddings = special_encoder.encode(TEXTS)
    assert embeddings.shape == (6, 8)
    assert embeddings.tobytes() == expected.tobytes()
    assert special_encoder.encode(TEXTS, prompt="").tobytes() != embeddings.tobytes()


def test_models_without_prompts_have_empty_ones(minilm_encoder: vlt.Encoder) -> None:
    """As in sentence-transformers, so that code for models with prompts works with all."""
    assert minilm_encoder.prompts == {"query": "", "document": ""}
    plain = minilm_encoder.encode("a query").tobytes()
    assert minilm_encoder.encode("a query", prompt_name="query").tobytes() == plain
    assert minilm_encoder.encode_query("a query").tobytes() == plain
    assert minilm_encoder.encode_document("a query").tobytes() == plain


def test_settings_of_the_file(special_encoder: vlt.Encoder) -> None:
    assert special_encoder.prompts == PROMPTS
    assert special_encoder.default_prompt_name == "query"
    assert special_encoder.similarity_fn_name == "dot"
    assert special_encoder.get_sentence_embedding_dimension() == 8
    assert special_encoder.tokenize("BANANA") == special_encoder.tokenize("banana")


# ---- Length --------------------------------------------------------------------------------------


def test_texts_are_truncated(tiny_weights: Path) -> None:
    with vlt.Encoder(tiny_weights) as encoder:
        long = "banana " * 1000
        assert encoder.max_seq_length == encoder.get_max_seq_length() == TINY_TEXT_LENGTH
        assert len(encoder.tokenize(long)) == TINY_TEXT_LENGTH
        encoder.max_seq_length = 5
        assert encoder.tokenize(long) == token_ids("banana banana banana")
        for wrong in (0, 65):
            with pytest.raises(ValueError, match=f"1 ... 64, not {wrong}"):
                encoder.max_seq_length = wrong
        encoder.max_seq_length = 2
        with pytest.raises(ValueError, match="2 special tokens"):
            encoder.encode("banana")
        encoder.max_seq_length = 64
        assert len(encoder.tokenize(long)) == 64


# ---- Bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentences", "options", "error", "words"),
    [
        (["a", 3], {}, TypeError, "number 1 is 3 of type int"),
        (["a", None], {}, TypeError, "number 1 is None"),
        (["a", ("b", 4)], {}, TypeError, "number 1"),
        (["a", ["b", "c", "d"]], {}, TypeError, "number 1"),
        (b"bytes", {}, TypeError, "bytes"),
        (7, {}, TypeError, "int"),
        (["a", "b\ud800"], {}, ValueError, "sentence 1.*character 1"),
        ("b\ud800", {}, ValueError, "sentence 0"),
        ("a", {"precision": "int4"}, ValueError, "'int4'"),
        ("a", {"output_value": "logits"}, ValueError, "'logits'"),
        ("a", {"batch_size": 0}, ValueError, "batch_size.*not 0"),
        ("a", {"truncate_dim": 0}, ValueError, "truncate_dim.*not 0"),
        ("a", {"device": "cuda"}, vlt.UnsupportedError, "cuda"),
    ],
)
def test_bad_calls_are_refused(
    tiny_encoder: vlt.Encoder,
    sentences: Any,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        tiny_encoder.encode(sentences, **options)
    assert tiny_encoder.encode("a").shape == (32,)


def test_file_without_a_tokenizer(tmp_path: Path) -> None:
    folder = write_bert_folder(
        tmp_path / "bare",
        seed=1,
        num_layers=1,
        hidden_size=16,
        num_heads=2,
        intermediate_size=16,
        tokenizer=False,
    )
    with vlt.Encoder(folder) as encoder:
        with pytest.raises(vlt.UnsupportedError, match="no tokenizer"):
            encoder.encode("a")
        assert encoder.run([[1, 2]]).lengths == [2]


def test_missing_packages_are_named(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vlt.Encoder(tiny_weights) as encoder:
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(ImportError, match="torch is not installed"):
            encoder.encode("a", convert_to_tensor=True)
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        with pytest.raises(ImportError, match="pip install tokenizers"):
            encoder.encode("a")


# ---- Progress ------------------------------------------------------------------------------------


def test_progress_bar(tiny_encoder: vlt.Encoder, capfd: pytest.CaptureFixture[str]) -> None:
    tiny_encoder.encode(TEXTS)
    assert capfd.readouterr().err == ""
    tiny_encoder.encode(TEXTS, show_progress_bar=True)
    assert "100%" in capfd.readouterr().err


# ---- A real model --------------------------------------------------------------------------------


def test_readme_example(minilm_encoder: vlt.Encoder) -> None:
    states = minilm_encoder.run([[101, 7592, 102], [101, 102]])
    assert states[0].shape == (3, 384)
    assert states.values.shape == (5, 384)
    assert states.lengths == [3, 2]
    embeddings = minilm_encoder.encode(["A man is eating food.", "A cheetah runs."])
    assert embeddings.shape == (2, 384)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)


def test_meaning(minilm_encoder: vlt.Encoder) -> None:
    query = minilm_encoder.encode("How many people live in Berlin?")
    passages = minilm_encoder.encode(
        [
            "Berlin has a population of about 3.7 million inhabitants.",
            "The museum island is a popular sight in Berlin.",
            "Bananas are rich in potassium.",
        ]
    )
    scores = minilm_encoder.similarity(query, passages)[0]
    assert scores[0] > 0.6 > scores[1] > scores[2]
    assert scores[2] < 0.1
